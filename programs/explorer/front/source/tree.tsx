// The branches of a sample as a tree: where each left its parent, who went on, and how it ended.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { go, href, isStatic, joined } from "./address";
import { Word } from "./branch";
import type { Sample, StoreInfo, TreeNode } from "./contract";
import { readSample, readTree } from "./data";
import { count, leftAt, runLabel, times, visible } from "./format";
import { Awaited, Said, useLoaded, useTitle } from "./loading";
import { Outcome } from "./outcome";

export function TreeView({ store, run, sample }: { store: StoreInfo; run: string; sample: string }) {
  const loaded = useLoaded(() => Promise.all([readSample(run, sample), readTree(run, sample)]), `${run}/${sample}`);
  return <Awaited of={loaded}>{([root, nodes]) => <Tree store={store} root={root} nodes={nodes} />}</Awaited>;
}

interface Placed {
  node: TreeNode;
  depth: number;
  start: number; // of its own tokens, from the beginning of the root
  parent: Placed | null; // null: the root
}

/** Nodes in the order of a walk: children under their parent, by position. Nodes without a known parent are the root's. */
export function placed(rootSample: string, nodes: readonly TreeNode[]): Placed[] {
  const known = new Set(nodes.map(({ sample }) => sample));
  const children = new Map<string, TreeNode[]>();
  for (const node of nodes) {
    const parent = node.parent !== null && known.has(node.parent) && node.parent !== node.sample ? node.parent : rootSample;
    children.set(parent, [...(children.get(parent) ?? []), node]);
  }
  const found: Placed[] = [];
  const walk = (sample: string, depth: number, parent: Placed | null, begin: number): void => {
    const below = children.get(sample) ?? [];
    children.delete(sample); // a circle in a foreign store ends here
    below.sort((a, b) => a.position - b.position || a.run.localeCompare(b.run) || a.sample.localeCompare(b.sample));
    for (const node of below) {
      const start = begin + node.position + 1; // a branch's own tokens begin after the forced one
      const here = { node, depth, start, parent };
      found.push(here);
      walk(node.sample, depth + 1, here, start);
    }
  };
  walk(rootSample, 1, null, 0);
  return found;
}

/** A line of the tree: a branch, or all those that left one parent alike and ended, which may be listed below it. */
interface Line {
  key: string;
  first: Placed;
  of: Placed[];
  level: number;
  parent: string | null; // key of the line above it; null: the root's
}

const FEW = 3; // so many alike are listed by themselves

function lines(all: readonly Placed[], opened: ReadonlySet<string>): Line[] {
  const goesOn = new Set(all.map(({ parent }) => parent));
  const alike = new Map<string, Placed[]>();
  const keys = new Map<Placed, string>();
  for (const each of all) {
    const { run, sample, parent, position, token, arm, program } = each.node;
    const key = JSON.stringify(goesOn.has(each) ? [run, sample] : [run, parent, position, token, arm, program]);
    keys.set(each, key);
    alike.set(key, [...(alike.get(key) ?? []), each]);
  }
  const found: Line[] = [];
  const single = ({ node }: Placed): string => `${node.run}/${node.sample}`;
  for (const first of all) {
    const key = keys.get(first) as string;
    const of = alike.get(key) as Placed[];
    const parent = first.parent && single(first.parent);
    if (of.length <= FEW) found.push({ key: single(first), first, of: [first], level: first.depth, parent });
    else if (of[0] === first) {
      found.push({ key, first, of, level: first.depth, parent });
      if (opened.has(key)) for (const each of of) found.push({ key: single(each), first: each, of: [each], level: each.depth + 1, parent: key });
    }
  }
  return found;
}

function Tree({ store, root, nodes }: { store: StoreInfo; root: Sample; nodes: TreeNode[] }) {
  const { row } = root;
  useTitle(`Branches of ${row.problem}`);
  const all = useMemo(() => placed(row.sample, nodes), [root, nodes]);
  const [opened, setOpened] = useState<ReadonlySet<string>>(new Set());
  const shown = useMemo(() => lines(all, opened), [all, opened]);
  const [at, setAt] = useState(-1);
  const list = useRef<HTMLUListElement>(null);
  const moved = useRef(false);
  useEffect(() => {
    if (moved.current) list.current?.querySelector<HTMLElement>(`[data-place="${at}"]`)?.focus();
  }, [at]);
  const length = Math.max(row.tokens, ...all.map(({ node, start }) => start + node.tokens));
  const turn = (key: string): void => setOpened((before) => new Set(before.has(key) ? [...before].filter((each) => each !== key) : [...before, key]));

  const key = (event: KeyboardEvent): void => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const line = shown[at];
    const group = line !== undefined && line.of.length > 1 ? line.key : null;
    const firstChild = shown.findIndex(({ parent }) => parent === (line?.key ?? null));
    const steps: Record<string, number> = {
      ArrowDown: Math.min(shown.length - 1, at + 1),
      ArrowUp: Math.max(-1, at - 1),
      ArrowLeft: shown.findIndex((each) => each.key === line?.parent),
      ArrowRight: firstChild >= 0 ? firstChild : at,
      Home: -1,
      End: shown.length - 1,
    };
    const here = event.target instanceof HTMLElement && event.target.dataset.place !== undefined;
    const turns = group !== null && (event.key === "Enter" || event.key === (opened.has(group) ? "ArrowLeft" : "ArrowRight"));
    if (here && turns) turn(group);
    else if (here && event.key === "Enter") go(href(["sample", line?.first.node.run ?? row.run, line?.first.node.sample ?? row.sample]));
    else if (steps[event.key] !== undefined) {
      moved.current = true;
      setAt(steps[event.key] as number);
    } else return;
    event.preventDefault();
  };
  const item = (place: number) => ({
    role: "treeitem" as const,
    "data-place": place,
    tabIndex: at === place ? 0 : -1,
    "aria-selected": at === place,
    onFocus: () => setAt(place),
  });

  return (
    <article class="tree">
      <header class="head">
        <p class="crumbs">
          <a href={href(["sample", row.run, row.sample])}>{runLabel(root.runInfo)}</a> / {row.problem} / branches
        </p>
        <h1 class="asked">{root.question}</h1>
        <p class="ended">
          <span>{times(all.length, "branch", "branches")}</span>
          {all.length > 0 && (
            <span>{graded(all)}</span>
          )}
          {!isStatic && (
            <a href={`/data/export/tree/${joined(row.run, row.sample)}`} download={`tree-${row.sample}.json`}>
              Download as JSON
            </a>
          )}
        </p>
      </header>
      <ul class="nodes" role="tree" aria-label="Branches" ref={list} onKeyDown={key}>
        <li {...item(-1)} aria-level={1} class="node root">
          <Track from={0} to={row.tokens} length={length} of={[{ node: row }]} />
          <p class="line">
            <Outcome correct={row.correct} word /> <b>{row.program}</b> <span>answer {row.answer ?? "none"}</span> <span class="dim">{times(row.tokens, "token")}</span>
            <a href={href(["sample", row.run, row.sample])} tabIndex={at === -1 ? 0 : -1}>
              open
            </a>
          </p>
          <p class="text small">{root.text}</p>
        </li>
        {shown.map((line, place) => {
          const { node, start } = line.first;
          const tab = at === place ? 0 : -1;
          const several = line.of.length > 1;
          return (
            <li {...item(place)} key={line.key} aria-level={line.level + 1} aria-expanded={several ? opened.has(line.key) : undefined} class={`node depth${Math.min(line.level, 6)}`}>
              <Track from={Math.max(0, start - 1)} to={Math.max(...line.of.map((each) => each.start + each.node.tokens))} length={length} of={line.of} />
              <p class="line">
                {several ? <b>{times(line.of.length, "continuation")}</b> : <Outcome correct={node.correct} word />}{" "}
                <span>
                  {leftAt(node.position)}
                  {node.position >= 0 && (
                    <>
                      {" "}
                      <b class="forced">{visible(node.token)}</b>
                      {node.arm && <span class="dim"> {node.arm}</span>}
                    </>
                  )}
                  , then {node.program}
                </span>{" "}
                {several ? (
                  <>
                    <span>{graded(line.of)}</span> <span>{answered(line.of)}</span>
                    <button type="button" tabIndex={tab} onClick={() => turn(line.key)}>
                      {opened.has(line.key) ? "close" : "list"}
                    </button>
                  </>
                ) : (
                  <>
                    <span>answer {node.answer ?? "none"}</span> <span class="dim">{times(node.tokens, "token")}</span>
                    <a href={href(["sample", node.run, node.sample])} tabIndex={tab}>
                      open
                    </a>
                    <a href={href(compared(root, line.first))} tabIndex={tab}>
                      compare
                    </a>
                  </>
                )}
              </p>
              {!several && (
                <p class="text small">
                  {node.token && <Word text={node.token} forced />}
                  {node.text}
                </p>
              )}
            </li>
          );
        })}
      </ul>
      {all.length === 0 && (
        <p class="none">
          No branch leaves this sample yet. {store.branching ? "Open it, choose a token and click one of its candidates." : <Said text={store.branchingRemedy} />}
        </p>
      )}
    </article>
  );
}

/** The address of a branch beside its parent. */
function compared(root: Sample, { node, parent }: Placed): string[] {
  const above = parent?.node ?? root.row;
  return ["compare", above.run, above.sample, node.run, node.sample];
}

const OUTCOMES: [string, boolean | null][] = [["right", true], ["wrong", false], ["ungraded", null]];

const having = (of: readonly Ended[], correct: boolean | null): number => of.filter(({ node }) => node.correct === correct).length;

const graded = (of: readonly Ended[]): string => OUTCOMES.filter(([, correct]) => having(of, correct)).map(([name, correct]) => `${count(having(of, correct))} ${name}`).join(", ");

const MOST_ANSWERS = 3;

/** What several ended with, the most frequent first. */
function answered(of: readonly Placed[]): string {
  const times = new Map<string, number>();
  for (const { node } of of) times.set(node.answer ?? "none", (times.get(node.answer ?? "none") ?? 0) + 1);
  const often = [...times].sort((a, b) => b[1] - a[1]).map(([answer, n]) => `${answer} (${count(n)})`);
  const rest = often.length - MOST_ANSWERS;
  return `answers ${often.slice(0, MOST_ANSWERS).join(", ")}${rest > 0 ? ` and ${count(rest)} more` : ""}`;
}

interface Ended {
  node: { correct: boolean | null };
}

/** Where branches lie, in parts as large as the shares of those that ended right, wrong and ungraded. */
function Track({ from, to, length, of }: { from: number; to: number; length: number; of: readonly Ended[] }) {
  let left = from;
  return (
    <span class="lane" aria-hidden="true">
      {OUTCOMES.filter(([, correct]) => having(of, correct)).map(([name, correct]) => {
        const width = ((to - from) * having(of, correct)) / of.length;
        left += width;
        return <span key={name} class={name} style={{ left: `${(100 * (left - width)) / length}%`, width: `${Math.max(0.5, (100 * width) / length)}%` }} />;
      })}
    </span>
  );
}
