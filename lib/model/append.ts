import { firstKept, packBatch } from '../data/batch.ts';
import type { NumericArray } from '../native/types.ts';
import type { EncodedRequest } from '../schema/encode.ts';
import type { Schema } from '../schema/schema.ts';
import { historyForm, type LongerConfig, type ModelConfig } from './config.ts';
import { layoutHistory, type ModelInputs, rowArrays } from './layout.ts';
import { historyRows, type Known, type Segment, segmentsOf, type Window, windowOf } from './visibility.ts';

/** Why nothing of a cache holds when its history grows; null where something does. */
export function appendRefusal(schema: Schema, config: ModelConfig): string | null {
  if (config.kind !== 'longer') return `'${config.kind}' keeps no keys and values`;
  if (config.alignment !== 'oldest') return `with alignment 'newest' every event moves to another group`;
  if (config.position !== 'ordinal') return `with position 'recency' every event gets another position`;
  if (schema.time && config.timeGap.to !== 'previous') return `with timeGap.to 'request' every event gets another gap`;
  if (config.visibility !== 'paper') return `with visibility 'anchored' every row sees globals that see the newest event`;
  return null;
}

export const appendRemedy = "Train with alignment 'oldest', position 'ordinal', timeGap.to 'previous' and visibility 'paper'";

/** What of one request was computed by an append, and what was taken from the cache. */
export interface Reuse {
  /** Events that the model keeps of the history. */
  readonly events: { readonly kept: number; readonly computed: number };
  /** Rows that ask. */
  readonly rows: { readonly kept: number; readonly computed: number };
}

export interface AppendLayout {
  /** Sizes and arrays of the append graph, but for the past itself. */
  readonly run: ModelInputs;
  /** What candidates are scored with afterwards: the same as after a prefill of the grown histories. */
  readonly inputs: ModelInputs;
  readonly reuse: readonly Reuse[];
}

/**
 * What has to be computed when requests grow. Merged tokens hold, but for the newest where it was short. An asking row holds where
 * every row that it sees is the one that it saw, in the same place: then it is, and all that is made of it, the same bits.
 * @param grown each request with its new events; @param pastRows asking rows of the cache, keys of which `past.keys` counts
 */
export function layoutAppend(schema: Schema, config: LongerConfig, past: readonly EncodedRequest[], grown: readonly EncodedRequest[]): AppendLayout {
  const form = historyForm(config);
  const window = (r: EncodedRequest): Window & { events: number } => {
    const first = firstKept(schema, form, r);
    const events = r.historyStart + r.events - first;
    return { ...windowOf(config, first, events), events };
  };
  const before = past.map(window);
  const now = grown.map(window);
  const known = now.map((w, r): Known => {
    const whole = Math.floor((past[r]!.historyStart + past[r]!.events) / config.merge);
    const from = Math.max(w.first, Math.min(whole, w.first + w.count));
    const old = segmentsOf(config, before[r]!);
    return { from, rows: segmentsOf(config, w).map((s) => Math.max(0, ...old.map((o) => holding(o, s, from)))) };
  });
  const tail = packBatch(schema, grown, form, known.map((k) => k.from * config.merge));
  const rows = historyRows(config, now, known);
  const run = layoutHistory(config, tail);
  const [sizes, arrays] = [{ ...run.sizes }, new Map<string, NumericArray>(run.arrays)];
  rowArrays(rows, sizes, arrays);
  const pastRows = historyRows(config, before);
  const [pastKeys, pastQueries] = [pastRows.keyOffsets.at(-1)!, pastRows.queryOffsets.at(-1)!];
  const [keys, queries] = [rows.keyOffsets.at(-1)!, rows.queryOffsets.at(-1)!];
  Object.assign(sizes, { keys, fresh: rows.askOffsets.at(-1)!, 'past.keys': pastKeys, 'past.rows': pastQueries });
  arrays.set('key.join', Int32Array.from(now.flatMap((w, r) => Array.from({ length: w.count }, (_, i) => {
    const g = w.first + i;
    return g < known[r]!.from ? pastRows.keyOffsets[r]! + g - before[r]!.first : pastKeys + rows.groupOffsets[r]! + g - known[r]!.from;
  }))));
  const join = new Int32Array(queries);
  const learnable = config.queries.kind === 'learnable' ? config.queries.k : 0;
  for (let r = 0, at = 0, fresh = pastQueries; r < now.length; ++r) {
    const old = segmentsOf(config, before[r]!);
    segmentsOf(config, now[r]!).forEach((s, i) => {
      const held = known[r]!.rows[i]!;
      const source = old.findIndex((o) => holding(o, s, known[r]!.from) === held);
      const first = pastRows.queryOffsets[r]! + old.slice(0, source).reduce((n, o) => n + o.asks.length, 0);
      for (let j = 0; j < s.asks.length; ++j) join[at++] = j < held ? first + j : fresh++;
    });
    for (let q = 0; q < learnable; ++q) join[at++] = fresh++;
  }
  arrays.set('row.join', join);
  return {
    run: { sizes, arrays },
    inputs: scoringInputs(config, now, run),
    reuse: now.map((w, r) => {
      const computed = tail.eventCounts[r]!;
      const asking = rows.queryOffsets[r + 1]! - rows.queryOffsets[r]!;
      const kept = known[r]!.rows.reduce((n, held) => n + held, 0);
      return { events: { kept: w.events - computed, computed }, rows: { kept, computed: asking - kept } };
    }),
  };
}

/** How many of the segment's first rows an older segment computed, with everything that they see. */
export function holding(old: Segment, now: Segment, from: number): number {
  if (old.start !== now.start) return 0;
  let n = 0;
  while (n < now.asks.length && now.asks[n] === old.asks[n] && now.asks[n]! < from) ++n;
  return n;
}

function scoringInputs(config: LongerConfig, windows: readonly Window[], run: ModelInputs): ModelInputs {
  const sizes = { ...run.sizes };
  const arrays = new Map<string, NumericArray>([...run.arrays].filter(([name]) => !name.startsWith('event.')));
  rowArrays(historyRows(config, windows), sizes, arrays);
  return { sizes, arrays };
}
