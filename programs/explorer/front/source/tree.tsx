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
  parent: number; // place in the list; -1: the root
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
  const walk = (sample: string, depth: number, parent: number, begin: number): void => {
    const below = children.get(sample) ?? [];
    children.delete(sample); // a circle in a foreign store ends here
    below.sort((a, b) => a.position - b.position || a.run.localeCompare(b.run) || a.sample.localeCompare(b.sample));
    for (const node of below) {
      const start = begin + node.position + 1; // a branch's own tokens begin after the forced one
      const place = found.push({ node, depth, start, parent }) - 1;
      walk(node.sample, depth + 1, place, start);
    }
  };
  walk(rootSample, 1, -1, 0);
  return found;
}

function Tree({ store, root, nodes }: { store: StoreInfo; root: Sample; nodes: TreeNode[] }) {
  const { row } = root;
  useTitle(`Branches of ${row.problem}`);
  const all = useMemo(() => placed(row.sample, nodes), [root, nodes]);
  const [at, setAt] = useState(-1);
  const list = useRef<HTMLUListElement>(null);
  const moved = useRef(false);
  useEffect(() => {
    if (moved.current) list.current?.querySelector<HTMLElement>(`[data-place="${at}"]`)?.focus();
  }, [at]);
  const length = Math.max(row.tokens, ...all.map(({ node, start }) => start + node.tokens));

  const key = (event: KeyboardEvent): void => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const firstChild = all.findIndex(({ parent }) => parent === at);
    const steps: Record<string, number> = {
      ArrowDown: Math.min(all.length - 1, at + 1),
      ArrowUp: Math.max(-1, at - 1),
      ArrowLeft: at < 0 ? -1 : (all[at]?.parent ?? -1),
      ArrowRight: firstChild >= 0 ? firstChild : at,
      Home: -1,
      End: all.length - 1,
    };
    if (event.key === "Enter" && event.target instanceof HTMLElement && event.target.dataset.place !== undefined) {
      const node = all[at]?.node;
      go(node ? href(["sample", node.run, node.sample]) : href(["sample", row.run, row.sample]));
      return;
    }
    const next = steps[event.key];
    if (next === undefined) return;
    event.preventDefault();
    moved.current = true;
    setAt(next);
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
            <span>
              {count(all.filter(({ node }) => node.correct === true).length)} right, {count(all.filter(({ node }) => node.correct === false).length)} wrong
            </span>
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
          <Track from={0} to={row.tokens} length={length} correct={row.correct} />
          <p class="line">
            <Outcome correct={row.correct} word /> <b>{row.program}</b> <span>answer {row.answer ?? "none"}</span> <span class="dim">{times(row.tokens, "token")}</span>
            <a href={href(["sample", row.run, row.sample])} tabIndex={at === -1 ? 0 : -1}>
              open
            </a>
          </p>
          <p class="text small">{root.text}</p>
        </li>
        {all.map(({ node, depth, start }, place) => (
          <li {...item(place)} key={`${node.run}/${node.sample}`} aria-level={depth + 1} class={`node depth${Math.min(depth, 6)}`}>
            <Track from={Math.max(0, start - 1)} to={start + node.tokens} length={length} correct={node.correct} />
            <p class="line">
              <Outcome correct={node.correct} word />{" "}
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
              <span>answer {node.answer ?? "none"}</span> <span class="dim">{times(node.tokens, "token")}</span>
              <a href={href(["sample", node.run, node.sample])} tabIndex={at === place ? 0 : -1}>
                open
              </a>
              <a href={href(compared(root, all, place))} tabIndex={at === place ? 0 : -1}>
                compare
              </a>
            </p>
            <p class="text small">
              {node.token && <Word text={node.token} forced />}
              {node.text}
            </p>
          </li>
        ))}
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
function compared(root: Sample, all: Placed[], place: number): string[] {
  const { node, parent } = all[place] as Placed;
  const above = all[parent]?.node ?? root.row;
  return ["compare", above.run, above.sample, node.run, node.sample];
}

function Track({ from, to, length, correct }: { from: number; to: number; length: number; correct: boolean | null }) {
  const name = correct === null ? "ungraded" : correct ? "right" : "wrong";
  return (
    <span class="lane" aria-hidden="true">
      <span class={name} style={{ left: `${(100 * from) / length}%`, width: `${Math.max(0.5, (100 * (to - from)) / length)}%` }} />
    </span>
  );
}
