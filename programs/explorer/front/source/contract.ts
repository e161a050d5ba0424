// What the explorer's server (or a static export) gives the page. Arrays of a sample have one entry a token, in order of
// position. Numbers are nats or tokens; null: not computed.

export interface StoreInfo {
  name: string;                 // of the file
  static: boolean;              // a static export: no server
  branching: boolean;           // POST /data/branches works
  branchingRemedy: string;      // what to start where it does not
  runs: RunInfo[];
  metrics: { name: string; unit: string; meaning: string }[]; // what tokens can be shaded by: score and all stored metrics
  statistics: string[];         // which aggregates have something to show
}
export interface RunInfo {
  run: string; program: string; unit: string | null; // what a counterfactual run tries
  writer: string;               // the program that decoded it, of a counterfactual run that of the sample it continues
  status: string; createdAt: string; problemSet: string;
  baseModel: string | null; reasoningModel: string | null;
  samples: number; graded: number; right: number; tokens: number; takeovers: number;
  metric: string | null; scoreKind: string; temperature: number;
  gate: Gate | null;
}
export interface Gate { name: string; metric: string | null; tau: number | null; lambda: number | null; window: number | null; warmup: "tau" | "partial" | "never" | null; cooldown: number; rolling: number }

export interface SamplesQuery {
  run?: string[]; program?: string[]; outcome?: "right" | "wrong" | "ungraded";
  flipped?: string;             // other run: outcome there differs ("gained": wrong there, right here; "lost")
  flip?: "gained" | "lost" | "any";
  takeoversMin?: number; takeoversMax?: number;
  word?: string;                // a planning word / token text that occurs in the sample
  tagged?: boolean;             // has a planning token
  from?: number; to?: number;   // some token in these positions that ... (with scoreMin/Max: has this score; alone: was a takeover)
  scoreMin?: number; scoreMax?: number;
  text?: string;                // substring of question or answer text, case-insensitive
  sort?: "problem" | "tokens" | "takeovers" | "changed" | "maxScore" | "outcome" | "run"; order?: "up" | "down";
  offset?: number; limit?: number;
}
export interface SamplesPage { total: number; offset: number; rows: SampleRow[] }
export interface SampleRow {
  run: string; sample: string; index: number; program: string; problem: string; question: string; // shortened to 200 characters
  answer: string | null; gold: string | null; correct: boolean | null;
  tokens: number; takeovers: number; changed: number; finish: string; maxScore: number | null;
  parent: string | null; parentPosition: number | null;
}
export interface Sample {
  row: SampleRow; runInfo: RunInfo; question: string; basePrompt: string | null; reasoningPrompt: string | null; text: string;
  ids: number[]; texts: string[]; source: ("base" | "reasoning")[];      // source as 0/1 is fine: "b"/"r"
  baseDrew: (string | null)[]; baseDrewIds: (number | null)[]; reasoningDrew: (string | null)[];
  score: (number | null)[]; localMean: (number | null)[]; fired: boolean[]; planning: (string | null)[]; // word or null
  seen: number[];                // scores before the token in its sample, as the gate counts them
  metrics: Record<string, (number | null)[]>;                             // every stored metric of StoreInfo.metrics
  baseLogprob: (number | null)[]; reasoningLogprob: (number | null)[];
  bounds: string | null;         // "lower bounds: top-k of 20" or null when exact
}
/** What filters ask of a sample's tokens, in a static export: one entry a token, or the positions of those that are something. */
export interface SearchedTokens {
  question: string; text: string; texts: string[]; score: (number | null)[]; metrics: Record<string, (number | null)[]>;
  taken: number[]; fired: number[]; changed: number[]; planning: number[];
  tested: number[];              // both arms were graded
}
export interface Candidates { from: number; to: number; tokens: TokenCandidates[] }
export interface TokenCandidates {
  base: [id: number, text: string, logprob: number][]; reasoning: [id: number, text: string, logprob: number][];
  baseTail: number | null; reasoningTail: number | null;   // mass outside the list
  baseRank: number | null; reasoningRank: number | null;   // rank of the emitted token (1 = first); null: not in the list
}
export interface TreeNode {
  run: string; sample: string; parent: string | null; position: number; // of the forced token in the parent
  token: string; arm: string | null; program: string; answer: string | null; correct: boolean | null; tokens: number; text: string; // text after the branch
}
export interface Aggregate {
  name: string; run: string; title: string; x: string; y: string; note: string | null;
  runs: string[];               // that have this statistic
  metric: string | null; metrics: string[]; // of which it is, and could be; none: it is not of a metric
  share: number | null; shares: number[];   // of the tokens, likewise
  ticks: { factor: number; suffix: string }; // how the axis of y writes its numbers
  points: AggregatePoint[];
}
export interface AggregatePoint {
  label: string; x: number; y: number; low: number | null; high: number | null; n: number; tokens: TokensQuery | null;
  said: { x: string; y: string; interval: string | null };       // as tables write them
}
export interface TokensQuery { run: string; positionFrom?: number; positionTo?: number; relative?: boolean; word?: string; metric?: string; tested?: boolean; scoreMin?: number; scoreMax?: number; fired?: boolean; changed?: boolean; limit?: number; offset?: number }
export interface TokenHit { run: string; sample: string; position: number; token: string; before: string; after: string; score: number | null; fired: boolean; correct: boolean | null }
export interface BranchRequest { run: string; sample: string; position: number; token: number; program: "base" | "reasoning" | "guided"; tau?: number; lambda?: number | false; temperature?: number; seed?: number; maxNewTokens?: number }
export type BranchEvent =
  | { event: "started"; run: string; sample: string }
  | { event: "tokens"; texts: string[]; ids: number[]; source: ("base" | "reasoning")[]; score: (number | null)[]; fired: boolean[] }
  | { event: "finished"; run: string; sample: string; answer: string | null; correct: boolean | null; finish: string; tokens: number; takeovers: number }
  | { event: "failed"; message: string; remedy: string };
