import type { HistoryForm } from '../data/batch.ts';

/** Which merged tokens of the history ask in the hybrid attention (spec 4.1); k counts merged tokens. */
export type QuerySelection =
  | { readonly kind: 'recent'; readonly k: number }
  | { readonly kind: 'uniform'; readonly k: number }
  | { readonly kind: 'learnable'; readonly k: number }
  | { readonly kind: 'recent+uniform'; readonly recent: number; readonly uniform: number }
  | { readonly kind: 'all' };

/** Log buckets of a time gap, and the width of their embedding. */
export interface TimeGap {
  readonly buckets: number;
  readonly width: number;
}

/** The model of the paper. Defaults are its main configuration (spec 0): d=32, K=8, one inner block, k=100, 1+1 layers, m=2. */
export interface LongerConfig {
  readonly kind: 'longer';
  /** Longest history kept, newest events. */
  readonly maxHistory: number;
  /** Width d of an event token. */
  readonly width: number;
  /** Token merge factor K; the model's width is D = K * d. */
  readonly merge: number;
  /** InnerTransformer over the K events of a group: blocks (0: none) and their heads, which divide `width`. */
  readonly inner: { readonly blocks: number; readonly heads: number };
  /** Which merged tokens ask. */
  readonly queries: QuerySelection;
  /** Self-causal layers N after the cross layer. */
  readonly selfLayers: number;
  /** Of the hybrid attention and the self layers; they divide `width * merge`. */
  readonly heads: number;
  /** `paper`: global tokens see the history, which sees none of them; `anchored`: those of the user stand in front of it and are seen by all (docs/model.md). */
  readonly visibility: 'paper' | 'anchored';
  /**
   * `full`: a row sees all that is kept and not newer. `banded`: rows are cut into bands, and a row sees a fixed stretch of merged tokens and the
   * rows of its own band, whatever the history's length becomes (docs/model.md, "Forms of a history").
   */
  readonly window: 'full' | 'banded';
  /** Global tokens beside user/context and candidate: a token of one user id feature, learnable CLS tokens. */
  readonly globals: { readonly uid: string | null; readonly cls: number };
  readonly norm: 'layer' | 'rms';
  readonly ffn: 'gelu' | 'swiglu';
  /** Gates what attention gives by a sigmoid of its input. */
  readonly gate: boolean;
  /** Rate in [0, 1), while training. */
  readonly dropout: number;
  /** Seconds to the request (the paper) or since the event before, in buckets. */
  readonly timeGap: TimeGap & { readonly to?: 'request' | 'previous' };
  /** Which end of the history groups of K are counted from; `oldest` counts from the user's first event of all. */
  readonly alignment: 'newest' | 'oldest';
  /** The learned position of an event: how many are newer (the paper), or its ordinal modulo maxHistory. */
  readonly position: 'recency' | 'ordinal';
  /** How the candidate becomes a token: through the history's own token MLP plus a residual of its own, or by its own MLP. */
  readonly candidateEncoder: 'shared' | 'own';
  /** What the last MLP reads of the history's rows, and its hidden widths. */
  readonly head: { readonly kind: 'pooled' | 'flatten'; readonly hidden: readonly number[] };
  /**
   * Logit of a row with itself at the start, and so how sharply content is matched before anything is learned: query and key projections start as
   * the multiple of the identity that gives it, whatever the heads' width.
   */
  readonly attentionGain: number;
}

/** Models to compare with, on the same schema. */
export interface BaselineConfig {
  readonly kind: 'base' | 'sum-pooling' | 'din';
  readonly maxHistory: number;
  readonly width: number;
  readonly timeGap: TimeGap;
  readonly head: { readonly kind: 'pooled'; readonly hidden: readonly number[] };
  /** Hidden widths of DIN's activation unit. */
  readonly unit: readonly number[];
}

export type ModelConfig = LongerConfig | BaselineConfig;

export const longerDefaults: LongerConfig = {
  kind: 'longer',
  maxHistory: 2000,
  width: 32,
  merge: 8,
  inner: { blocks: 1, heads: 2 },
  queries: { kind: 'recent', k: 100 },
  selfLayers: 1,
  heads: 4,
  visibility: 'paper',
  window: 'full',
  globals: { uid: null, cls: 0 },
  norm: 'layer',
  ffn: 'gelu',
  gate: false,
  dropout: 0,
  timeGap: { to: 'request', buckets: 64, width: 16 },
  alignment: 'newest',
  position: 'recency',
  candidateEncoder: 'shared',
  head: { kind: 'pooled', hidden: [256, 128] },
  attentionGain: 3,
};

const baselineDefaults = {
  maxHistory: 2000,
  width: 32,
  timeGap: { buckets: 64, width: 16 },
  head: { kind: 'pooled', hidden: [256, 128] },
  unit: [64, 32],
} as const;

/** Models by the names of the paper's table (spec 7.2). */
export const presets = {
  longer: () => longerDefaults,
  transformer: () => ({ ...longerDefaults, merge: 1, inner: { blocks: 0, heads: 1 }, queries: { kind: 'all' }, heads: 2 }) satisfies LongerConfig,
  base: () => ({ kind: 'base', ...baselineDefaults }) satisfies BaselineConfig,
  'sum-pooling': () => ({ kind: 'sum-pooling', ...baselineDefaults }) satisfies BaselineConfig,
  din: () => ({ kind: 'din', ...baselineDefaults }) satisfies BaselineConfig,
  'din-recent50': () => ({ kind: 'din', ...baselineDefaults, maxHistory: 50 }) satisfies BaselineConfig,
} as const;

export type PresetName = keyof typeof presets;

/** What a model keeps of a history; models other than LONGER count from the newest event. */
export function historyForm(config: ModelConfig): HistoryForm {
  const { maxHistory } = config;
  if (config.kind !== 'longer') return { maxHistory };
  const { alignment, merge, position, timeGap } = config;
  return { maxHistory, alignment, merge, position, timeGap };
}

/** Most merged tokens of a history: groups counted from the oldest event are kept whole. */
export function groupCount({ maxHistory, merge, alignment }: LongerConfig): number {
  return alignment === 'oldest' ? Math.floor(maxHistory / merge) : Math.ceil(maxHistory / merge);
}

/** Widest number of history rows that ask, after merging. */
export function queryCount(config: LongerConfig): number {
  const groups = groupCount(config);
  switch (config.queries.kind) {
    case 'all':
      return groups;
    case 'recent+uniform':
      return Math.min(groups, config.queries.recent + config.queries.uniform);
    case 'learnable':
      return config.queries.k;
    default:
      return Math.min(groups, config.queries.k);
  }
}
