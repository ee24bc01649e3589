import { LongerError } from '../errors.ts';
import type { EncodedCandidates, EncodedRequest, EncodedSide } from '../schema/encode.ts';
import type { Schema, Side } from '../schema/schema.ts';

/**
 * Requests end to end without padding. Columns: `<side>.<feature>` i32 table rows, `<side>.<feature>.offsets` i32 (multi-valued),
 * `<side>.numeric` f32 [rows, count], `event.time` and `request.time` f64, `event.offsets` and `candidate.offsets` i32 [requests + 1],
 * `event.recency` i32 (0 = newest of its request), `labels` f32 [candidates, tasks]. Events are oldest first.
 */
export interface Batch extends CandidateBatch {
  readonly events: number;
  /** After truncation to the newest maxHistory. */
  readonly eventCounts: Int32Array;
  readonly encoded: readonly EncodedRequest[];
}

/** The part of a batch that its candidates make: their features, `candidate.offsets` and `labels`. */
export interface CandidateBatch {
  readonly requests: number;
  readonly candidates: number;
  readonly candidateCounts: Int32Array;
  readonly columns: Map<string, Int32Array | Float32Array | Float64Array>;
}

/** @param options.maxHistory newest events of a request that are kept. @throws LongerError ERR_DATA for an empty batch */
export function packBatch(schema: Schema, encoded: readonly EncodedRequest[], options: { readonly maxHistory: number }): Batch {
  const R = encoded.length;
  const batch = packCandidates(schema, encoded);
  const { columns } = batch;
  const eventCounts = Int32Array.from(encoded, (e) => Math.min(e.events, options.maxHistory));
  const eventOffsets = offsetsOf(eventCounts);
  const events = eventOffsets[R]!;
  for (const side of ['user', 'context', 'event'] as const) packSide(columns, schema, side, encoded, side === 'event' ? eventCounts : null);

  columns.set('event.offsets', eventOffsets);
  const recency = new Int32Array(events);
  for (let r = 0, i = 0; r < R; ++r) for (let n = eventCounts[r]! - 1; n >= 0; --n) recency[i++] = n;
  columns.set('event.recency', recency);
  if (schema.time) {
    const eventTime = new Float64Array(events);
    encoded.forEach((e, r) => { eventTime.set(e.eventTime.subarray(e.events - eventCounts[r]!), eventOffsets[r]!); });
    columns.set('event.time', eventTime);
    columns.set('request.time', Float64Array.from(encoded, (e) => e.time));
  }
  return { ...batch, events, eventCounts, encoded };
}

/** The candidates of several requests end to end. @throws LongerError ERR_DATA where there is no request */
export function packCandidates(schema: Schema, lists: readonly EncodedCandidates[]): CandidateBatch {
  if (lists.length === 0) throw new LongerError('ERR_DATA', 'a batch needs at least one request');
  const columns: CandidateBatch['columns'] = new Map();
  const candidateCounts = Int32Array.from(lists, (e) => e.candidates);
  const offsets = offsetsOf(candidateCounts);
  packSide(columns, schema, 'candidate', lists, null);
  columns.set('candidate.offsets', offsets);
  columns.set('labels', join(lists.map((e) => e.labels), Float32Array));
  return { requests: lists.length, candidates: offsets[lists.length]!, candidateCounts, columns };
}

/** 0, and the running sums of the counts. */
function offsetsOf(counts: Int32Array): Int32Array {
  const offsets = new Int32Array(counts.length + 1);
  for (let i = 0; i < counts.length; ++i) offsets[i + 1] = offsets[i]! + counts[i]!;
  return offsets;
}

/** `kept`: of the event side, how many of each request's newest events stay. */
function packSide<S extends Side>(
  columns: Batch['columns'], schema: Schema, side: S, encoded: readonly ({ readonly [K in S]: EncodedSide } & { readonly events?: number })[], kept: Int32Array | null,
): void {
  const { fields, numericCount } = schema.sides[side];
  const skip = (r: number): number => (kept ? encoded[r]!.events! - kept[r]! : 0);
  const part = (r: number): EncodedSide => encoded[r]![side];
  for (const f of fields) {
    const name = `${side}.${f.name}`;
    if (f.kind === 'id') {
      columns.set(name, join(encoded.map((_, r) => part(r).ids.get(f.name)!.subarray(skip(r))), Int32Array));
      continue;
    }
    const lists = encoded.map((_, r) => part(r).ids.get(f.name)!.subarray(part(r).offsets.get(f.name)![skip(r)]!));
    const rows = encoded.reduce((n, _, r) => n + part(r).offsets.get(f.name)!.length - 1 - skip(r), 0);
    const offsets = new Int32Array(rows + 1);
    let row = 0;
    let base = 0;
    encoded.forEach((_, r) => {
      const own = part(r).offsets.get(f.name)!;
      const first = own[skip(r)]!;
      for (let i = skip(r) + 1; i < own.length; ++i) offsets[++row] = base + own[i]! - first;
      base += own[own.length - 1]! - first;
    });
    columns.set(name, join(lists, Int32Array));
    columns.set(`${name}.offsets`, offsets);
  }
  if (numericCount > 0) columns.set(`${side}.numeric`, join(encoded.map((_, r) => part(r).numeric.subarray(skip(r) * numericCount)), Float32Array));
}

function join<T extends Int32Array | Float32Array>(parts: readonly T[], type: new (n: number) => T): T {
  const all = new type(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    all.set(p as never, at);
    at += p.length;
  }
  return all;
}
