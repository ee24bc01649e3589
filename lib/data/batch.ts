import { LongerError } from '../errors.ts';
import type { EncodedRequest, EncodedSide } from '../schema/encode.ts';
import { type Schema, type Side, sides } from '../schema/schema.ts';

/**
 * Requests end to end without padding. Columns: `<side>.<feature>` i32 table rows, `<side>.<feature>.offsets` i32 (multi-valued),
 * `<side>.numeric` f32 [rows, count], `event.time` and `request.time` f64, `event.offsets` and `candidate.offsets` i32 [requests + 1],
 * `event.recency` i32 (0 = newest of its request), `labels` f32 [candidates, tasks]. Events are oldest first.
 */
export interface Batch {
  readonly requests: number;
  readonly events: number;
  readonly candidates: number;
  /** After truncation to the newest maxHistory. */
  readonly eventCounts: Int32Array;
  readonly candidateCounts: Int32Array;
  readonly columns: Map<string, Int32Array | Float32Array | Float64Array>;
  readonly encoded: readonly EncodedRequest[];
}

/** @param options.maxHistory newest events of a request that are kept. @throws LongerError ERR_DATA for an empty batch */
export function packBatch(schema: Schema, encoded: readonly EncodedRequest[], options: { readonly maxHistory: number }): Batch {
  const R = encoded.length;
  if (R === 0) throw new LongerError('ERR_DATA', 'a batch needs at least one request');
  const eventCounts = new Int32Array(R);
  const candidateCounts = new Int32Array(R);
  const eventOffsets = new Int32Array(R + 1);
  const candidateOffsets = new Int32Array(R + 1);
  for (let r = 0; r < R; ++r) {
    const e = encoded[r]!;
    eventCounts[r] = Math.min(e.events, options.maxHistory);
    candidateCounts[r] = e.candidates;
    eventOffsets[r + 1] = eventOffsets[r]! + eventCounts[r]!;
    candidateOffsets[r + 1] = candidateOffsets[r]! + e.candidates;
  }
  const events = eventOffsets[R]!;
  const candidates = candidateOffsets[R]!;
  const columns = new Map<string, Int32Array | Float32Array | Float64Array>();
  for (const side of sides) packSide(columns, schema, side, encoded, side === 'event' ? eventCounts : null);

  columns.set('event.offsets', eventOffsets);
  columns.set('candidate.offsets', candidateOffsets);
  const recency = new Int32Array(events);
  for (let r = 0, i = 0; r < R; ++r) for (let n = eventCounts[r]! - 1; n >= 0; --n) recency[i++] = n;
  columns.set('event.recency', recency);
  if (schema.time) {
    const eventTime = new Float64Array(events);
    encoded.forEach((e, r) => { eventTime.set(e.eventTime.subarray(e.events - eventCounts[r]!), eventOffsets[r]!); });
    columns.set('event.time', eventTime);
    columns.set('request.time', Float64Array.from(encoded, (e) => e.time));
  }
  const labels = new Float32Array(candidates * schema.tasks.length);
  encoded.forEach((e, r) => { labels.set(e.labels, candidateOffsets[r]! * schema.tasks.length); });
  columns.set('labels', labels);
  return { requests: R, events, candidates, eventCounts, candidateCounts, columns, encoded };
}

const rowsOf = (side: Side, e: EncodedRequest): number => (side === 'event' ? e.events : side === 'candidate' ? e.candidates : 1);

function packSide(columns: Batch['columns'], schema: Schema, side: Side, encoded: readonly EncodedRequest[], kept: Int32Array | null): void {
  const { fields, numericCount } = schema.sides[side];
  const skip = (r: number): number => (kept ? encoded[r]!.events - kept[r]! : 0);
  const part = (r: number): EncodedSide => encoded[r]![side];
  for (const f of fields) {
    const name = `${side}.${f.name}`;
    if (f.kind === 'id') {
      columns.set(name, join(encoded.map((_, r) => part(r).ids.get(f.name)!.subarray(skip(r))), Int32Array));
      continue;
    }
    const lists = encoded.map((_, r) => part(r).ids.get(f.name)!.subarray(part(r).offsets.get(f.name)![skip(r)]!));
    const rows = encoded.reduce((n, e, r) => n + rowsOf(side, e) - skip(r), 0);
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
