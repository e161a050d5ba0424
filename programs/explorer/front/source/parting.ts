// Where two samples part. A branch holds only its own tokens: what was given to it is the end of its prompt.

import type { Sample } from "./contract";

export interface Parting {
  kind: "apart" | "branch" | "siblings"; // branch: one continues the other; siblings: both continue one sample
  common: number; // tokens that both have, the given ones not counted
  from: [number, number]; // the first token of each that is shown
  given: [string, string]; // what was forced before that
}

/** How many tokens two samples have in common before the first that differs. */
export function commonLength(left: readonly number[], right: readonly number[]): number {
  const most = Math.min(left.length, right.length);
  let length = 0;
  while (length < most && left[length] === right[length]) length++;
  return length;
}

export function partingOf(left: Sample, right: Sample): Parting {
  if (right.row.parent === left.row.sample) return branchOf(left, right);
  if (left.row.parent === right.row.sample) {
    const { common, from, given } = branchOf(right, left);
    return { kind: "branch", common, from: [from[1], from[0]], given: [given[1], given[0]] };
  }
  const common = commonLength(left.ids, right.ids);
  if (left.row.parent !== null && left.row.parent === right.row.parent) {
    return { kind: "siblings", common: 0, from: [0, 0], given: tails(left.basePrompt ?? "", right.basePrompt ?? "") };
  }
  return { kind: "apart", common, from: [common, common], given: ["", ""] };
}

/** A branch beside its parent: from the token that it was given, or where that is the parent's own, where they part later. */
function branchOf(parent: Sample, branch: Sample): Parting {
  const at = branch.row.parentPosition ?? 0;
  const given = at < 0 ? "" : givenTo(branch, parent, at);
  if (at >= 0 && given.trim() !== (parent.texts[at] ?? "").trim()) return { kind: "branch", common: at, from: [at, 0], given: ["", given] };
  const alike = commonLength(parent.ids.slice(at + 1), branch.ids);
  return { kind: "branch", common: at + 1 + alike, from: [at + 1 + alike, alike], given: ["", ""] };
}

/** The token that a branch was given last: the rest of its prompt after its parent's up to there. */
function givenTo(branch: Sample, parent: Sample, at: number): string {
  const before = parent.texts.slice(0, at).join("");
  for (const [own, start] of [
    [branch.basePrompt, parent.basePrompt],
    [branch.reasoningPrompt, parent.reasoningPrompt],
  ]) {
    if (own && start && own.startsWith(start + before)) return own.slice(start.length + before.length);
  }
  return "";
}

/** What two texts end with after what they have in common, whole words. */
function tails(left: string, right: string): [string, string] {
  let length = 0;
  while (length < Math.min(left.length, right.length) && left[length] === right[length]) length++;
  while (length > 0 && !/\s/.test(left[length] ?? right[length] ?? " ")) length--;
  return [left.slice(length), right.slice(length)];
}
