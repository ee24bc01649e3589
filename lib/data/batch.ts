import { LongerError } from '../errors.ts';
import { type EncodedCandidates, type EncodedRequest, type EncodedSide, expectEncodedBy } from '../schema/encode.ts';
import { expectList } from '../schema/given.ts';
import type { Schema, Side } from '../schema/schema.ts';

/**
 * Requests end to end without padding. Columns: `<side>.<feature>` i32 table rows, `<side>.<feature>.offsets` i32 (multi-valued),
 * `<side>.numeric` f32 [rows, count], `event.time` and `request.time` f64, `event.offsets` and `candidate.offsets` i32 [requests + 1],
 * `event.position` i32 (by recency 0 = newest of its request, or the event's ordinal modulo maxHistory), `event.gap` f64 (seconds since the event
 * before, where the form asks for them), `labels` f32 [candidates, tasks]. Events are oldest first.
 */
export interface Batch extends CandidateBatch {
  readonly events: number;
  /** Events that the form keeps of each request. */
  readonly eventCounts: Int32Array;
  /** Ordinal, in the user's whole history, of the first event of each request. */
  readonly firstEvents: Int32Array;
  readonly form: HistoryForm;
  readonly encoded: readonly EncodedRequest[];
}

/** What is kept of a history and what is said of each event: declared by a model (docs/model.md, "Forms of a history"). */
export interface HistoryForm {
  /** Most events that are kept, the newest. */
  readonly maxHistory: number;
  /** `oldest`: groups of `merge` events are counted from the first event that the user ever had, and whole groups are kept. Default `newest`. */
  readonly alignment?: 'newest' | 'oldest';
  readonly merge?: number;
  /** Default `recency`. */
  readonly position?: 'recency' | 'ordinal';
  readonly timeGap?: { readonly to?: 'request' | 'previous'; readonly buckets: number };
}

/** The part of a batch that its candidates make: their features, `candidate.offsets` and `labels`. */
export interface CandidateBatch {
  readonly requests: number;
  readonly candidates: number;
  readonly candidateCounts: Int32Array;
  readonly columns: Map<string, Int32Array | Float32Array | Float64Array>;
}

/**
 * The ordinal of the first event that a form keeps of a request. With groups counted from the oldest event it begins a group, and with gaps to
 * the event before it has one (or is the user's first): what is said of an event never depends on how much of the past was handed over.
 */
export function firstKept(schema: Schema, form: HistoryForm, { historyStart, events }: Pick<EncodedRequest, 'historyStart' | 'events'>): number {
  const end = historyStart + events;
  if (form.alignment !== 'oldest') return Math.max(historyStart, end - form.maxHistory);
  const K = form.merge ?? 1;
  const known = historyStart > 0 && schema.time && form.timeGap?.to === 'previous' ? historyStart + 1 : historyStart;
  return Math.min(end, K * Math.max(Math.ceil(known / K), Math.ceil(end / K) - Math.floor(form.maxHistory / K)));
}

/**
 * @param encoded requests with their candidates and labels, from `encodeRequest` or a `Dataset`
 * @param form the model's (`historyForm(config)`), or `{ maxHistory }` where everything else is as by default
 * @param from ordinal of the first event to take of each request; default: all that the form keeps
 * @throws LongerError ERR_CONFIG for a form without maxHistory, ERR_DATA for an empty batch, ERR_SCHEMA for a request that another schema has encoded
 */
export function packBatch(schema: Schema, encoded: readonly EncodedRequest[], form: HistoryForm, from?: readonly number[]): Batch {
  expectList(encoded, 'requests', 'One request is given as [request]');
  const most = (form as Partial<HistoryForm> | undefined)?.maxHistory;
  if (!Number.isSafeInteger(most) || most! < 0) throw new LongerError('ERR_CONFIG', `expected a whole number of events, got ${most}`, { place: 'form.maxHistory', remedy: 'historyForm(model.config) is the form of a model' });
  const R = encoded.length;
  const batch = packCandidates(schema, encoded);
  const { columns } = batch;
  const firstEvents = Int32Array.from(encoded, (e, r) => from?.[r] ?? firstKept(schema, form, e));
  const eventCounts = firstEvents.map((first, r) => encoded[r]!.historyStart + encoded[r]!.events - first);
  const eventOffsets = offsetsOf(eventCounts);
  const events = eventOffsets[R]!;
  for (const side of ['user', 'context', 'event'] as const) packSide(columns, schema, side, encoded, side === 'event' ? eventCounts : null);

  columns.set('event.offsets', eventOffsets);
  columns.set('event.position', positions(form, eventCounts, firstEvents, events));
  if (schema.time) {
    const eventTime = new Float64Array(events);
    encoded.forEach((e, r) => { eventTime.set(e.eventTime.subarray(e.events - eventCounts[r]!), eventOffsets[r]!); });
    columns.set('event.time', eventTime);
    columns.set('request.time', Float64Array.from(encoded, (e) => e.time));
    if (form.timeGap?.to === 'previous') columns.set('event.gap', gapsToPrevious(encoded, eventCounts, events));
  }
  return { ...batch, events, eventCounts, firstEvents, form, encoded };
}

function positions(form: HistoryForm, counts: Int32Array, firsts: Int32Array, events: number): Int32Array {
  const all = new Int32Array(events);
  for (let r = 0, i = 0; r < counts.length; ++r)
    for (let n = counts[r]! - 1, o = firsts[r]!; n >= 0; --n, ++o) all[i++] = form.position === 'ordinal' ? o % form.maxHistory : n;
  return all;
}

/** Seconds since the event before; infinite for the first of all. */
function gapsToPrevious(encoded: readonly EncodedRequest[], counts: Int32Array, events: number): Float64Array {
  const gaps = new Float64Array(events);
  let i = 0;
  encoded.forEach(({ eventTime }, r) => {
    for (let e = eventTime.length - counts[r]!; e < eventTime.length; ++e) gaps[i++] = e === 0 ? Infinity : eventTime[e]! - eventTime[e - 1]!;
  });
  return gaps;
}

/** The candidates of several requests end to end. @throws LongerError ERR_DATA where there is no request, ERR_SCHEMA for one that another schema has encoded */
export function packCandidates(schema: Schema, lists: readonly EncodedCandidates[]): CandidateBatch {
  if (lists.length === 0) throw new LongerError('ERR_DATA', 'a batch needs at least one request');
  lists.forEach((list, r) => { expectEncodedBy(schema, list, `request ${r}`); });
  const columns: CandidateBatch['columns'] = new Map();
  const candidateCounts = new Int32Array(lists.length);
  for (let r = 0; r < lists.length; ++r) candidateCounts[r] = lists[r]!.candidates;
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
  if (parts.length === 1) return parts[0]!;
  const all = new type(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    all.set(p as never, at);
    at += p.length;
  }
  return all;
}
