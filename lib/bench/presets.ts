import { LongerError } from '../errors.ts';
import { packBatch, type Batch } from '../data/batch.ts';
import { Random } from '../data/random.ts';
import { historyForm, type LongerConfig, longerDefaults, queryCount } from '../model/config.ts';
import { anchorCount, candidateRowCount } from '../model/visibility.ts';
import { encodeRequest, type EncodedRequest } from '../schema/encode.ts';
import { id } from '../schema/features.ts';
import { defineSchema, type RequestOf } from '../schema/schema.ts';

/** A named size of the model at which speed is stated, and the requests of a training batch there. */
export interface BenchPreset {
  readonly name: string;
  readonly model: LongerConfig;
  readonly requests: number;
}

function preset(name: string, requests: number, model: Partial<LongerConfig>): BenchPreset {
  return { name, requests, model: { ...longerDefaults, ...model } };
}

/** S, M, P and X. P has 8 globals of which one belongs to the candidate: the other 7 are stored in front of the history. */
export const benchPresets: Readonly<Record<string, BenchPreset>> = {
  S: preset('S', 64, { maxHistory: 256, width: 32, merge: 4, heads: 2, queries: { kind: 'recent', k: 32 }, selfLayers: 1 }),
  M: preset('M', 32, { maxHistory: 1024, width: 32, merge: 8, heads: 4, queries: { kind: 'recent', k: 100 }, selfLayers: 2 }),
  P: preset('P', 32, { maxHistory: 2000, width: 32, merge: 8, heads: 4, queries: { kind: 'recent', k: 100 }, selfLayers: 2, visibility: 'anchored', globals: { uid: null, cls: 6 } }),
  X: preset('X', 4, { maxHistory: 10_000, width: 64, merge: 8, heads: 8, queries: { kind: 'recent', k: 250 }, selfLayers: 2 }),
};

/** @throws LongerError ERR_CONFIG for an unknown name */
export function benchPreset(name: string): BenchPreset {
  const found = benchPresets[name];
  if (!found) throw new LongerError('ERR_CONFIG', `there is no preset '${name}'`, { place: 'preset', remedy: `Known: ${Object.keys(benchPresets).join(', ')}` });
  return found;
}

/** The schema of all speed figures: a table of 100,000 items, an action, two user features, the hour. */
export const benchSchema = defineSchema({
  tables: { item: { size: 100_000, width: 32 } },
  user: { segment: id(1000, 16), region: id(64, 8) },
  context: { hour: id(24, 8) },
  event: { item: id('item'), action: id(4, 4) },
  candidate: { item: id('item') },
  labels: { click: {} },
  time: true,
});

export type BenchRequest = RequestOf<typeof benchSchema.spec>;

const now = 1_700_000_000;

/** A made request: ids drawn evenly, gaps of minutes to hours. The same arguments give the same request. */
export function benchRequest(seed: number, events: number, candidates: number): BenchRequest {
  const random = new Random(seed, 77);
  const item = Int32Array.from({ length: events }, () => random.below(100_000));
  const action = Int32Array.from({ length: events }, () => random.below(4));
  const time = new Float64Array(events);
  let at = now;
  for (let i = events - 1; i >= 0; --i) time[i] = at -= 60 + random.below(7200);
  return {
    id: `r${seed}`,
    user: { segment: random.below(1000), region: random.below(64) },
    context: { hour: random.below(24) },
    time: now,
    history: { item, action, time },
    candidates: { item: Int32Array.from({ length: candidates }, () => random.below(100_000)) },
    labels: { click: Array.from({ length: candidates }, () => random.below(2)) },
  };
}

/** Requests of the given history lengths, encoded. */
export function benchRequests(lengths: readonly number[], candidates = 1, seed = 1): EncodedRequest[] {
  return lengths.map((n, i) => encodeRequest(benchSchema, benchRequest(seed * 10_000 + i, n, candidates)));
}

export function benchBatch({ model }: Pick<BenchPreset, 'model'>, lengths: readonly number[], candidates = 1, seed = 1): Batch {
  return packBatch(benchSchema, benchRequests(lengths, candidates, seed), historyForm(model));
}

/** Lengths drawn evenly from 1..longest. */
export function raggedLengths(count: number, longest: number, seed = 5): number[] {
  const random = new Random(seed);
  return Array.from({ length: count }, () => 1 + random.below(longest));
}

/**
 * Forward FLOPs of one request by the paper's formulas (spec 4.2): InnerTransformer, cross layer, self layers; nothing else
 * counts, and causality gives no discount. Kept apart from `Graph.flops`, which counts the operations that really run.
 */
export function formulaFlops(c: LongerConfig, history: number, candidates: number): number {
  const d = c.width;
  const D = d * c.merge;
  const n = Math.ceil(history / c.merge);
  const k = Math.min(queryCount(c), c.queries.kind === 'learnable' ? Infinity : n);
  const own = candidateRowCount(c);
  const m = anchorCount(c) + own;
  const q = m + k;
  const s = m + n;
  const inner = c.inner.blocks * (24 * history * d * d + 4 * c.merge * history * d);
  const cross = 20 * q * D * D + 4 * s * D * D + 4 * q * s * D;
  const self = c.selfLayers * (24 * q * D * D + 4 * q * q * D);
  const another = layersOf(c).reduce((sum, layer) => sum + 24 * own * D * D + 4 * own * ((layer === 0 ? n : k) + m) * D, 0);
  return inner + cross + self + (candidates - 1) * another;
}

const layersOf = (c: LongerConfig): number[] => Array.from({ length: c.selfLayers + 1 }, (_, i) => i);
