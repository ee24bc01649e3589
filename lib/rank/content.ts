import { firstKept, type HistoryForm } from '../data/batch.ts';
import type { EncodedRequest, EncodedSide } from '../schema/encode.ts';
import type { Schema } from '../schema/schema.ts';

/** Events `start` to `end - 1` of a user, by their ordinals. */
export interface Events {
  readonly start: number;
  readonly end: number;
  readonly event: EncodedSide;
  readonly eventTime: Float64Array;
}

/**
 * What of a request a model's history side reads, to be compared: views of the request's own arrays. Its events begin with the one before the
 * first that the form keeps, where there is one.
 */
export interface Content extends Events {
  /** First event that the form keeps. */
  readonly first: number;
  readonly user: EncodedSide;
  readonly context: EncodedSide;
  readonly time: number;
}

export function contentOf(schema: Schema, form: HistoryForm, r: EncodedRequest): Content {
  const first = firstKept(schema, form, r);
  const start = Math.max(r.historyStart, first - 1);
  const skip = Math.min(r.events, start - r.historyStart);
  return {
    first, start: r.historyStart + skip, end: r.historyStart + r.events, time: r.time,
    event: rowsFrom(r.event, skip, schema.sides.event.numericCount), eventTime: r.eventTime.subarray(schema.time ? skip : 0),
    user: r.user, context: r.context,
  };
}

/** Rows of a side from one on. */
function rowsFrom(side: EncodedSide, from: number, numericCount: number): EncodedSide {
  if (from === 0) return side;
  const ids = new Map<string, Int32Array>();
  const offsets = new Map<string, Int32Array>();
  for (const [name, column] of side.ids) {
    const o = side.offsets.get(name);
    ids.set(name, column.subarray(o ? o[from]! : from));
    if (o) offsets.set(name, o.subarray(from).map((x) => x - o[from]!));
  }
  return { ids, offsets, numeric: side.numeric.subarray(from * numericCount) };
}

/** The same for long: what is a part of larger arrays is copied, so that the rest of them can go. */
export function kept(c: Content): Content {
  const event = ownSide(c.event);
  const [user, context, eventTime] = [ownSide(c.user), ownSide(c.context), own(c.eventTime)];
  return event === c.event && user === c.user && context === c.context && eventTime === c.eventTime ? c : { ...c, event, user, context, eventTime };
}

function ownSide(side: EncodedSide): EncodedSide {
  const all = [...side.ids.values(), ...side.offsets.values(), side.numeric];
  if (all.every((a) => own(a) === a)) return side;
  const each = (columns: EncodedSide['ids']): EncodedSide['ids'] => new Map([...columns].map(([name, a]) => [name, own(a)]));
  return { ids: each(side.ids), offsets: each(side.offsets), numeric: own(side.numeric) };
}

const own = <T extends Numbers>(a: T): T => (a.byteLength < a.buffer.byteLength ? (a.slice() as T) : a);

export function contentBytes(c: Content): number {
  let bytes = c.eventTime.byteLength;
  for (const side of [c.event, c.user, c.context]) for (const array of [...side.ids.values(), ...side.offsets.values(), side.numeric]) bytes += array.byteLength;
  return bytes;
}

/** Whether two sides of one row each are the same, bit for bit. */
export function sameSide(a: EncodedSide, b: EncodedSide): boolean {
  for (const [name, ids] of a.ids) if (!sameBits(ids, b.ids.get(name)!)) return false;
  return sameBits(a.numeric, b.numeric);
}

/**
 * Ordinal of the first event from `from` on that is not the same in both, bit for bit, or that only one of them has.
 * Both must have the event `from`, or end there.
 */
export function agreement(a: Events, b: Events, from: number): number {
  let rows = Math.min(a.end, b.end) - from;
  if (a.event === b.event && a.eventTime === b.eventTime && a.start === b.start) return from + rows; // a stored history is encoded once
  const [i, j] = [from - a.start, from - b.start];
  if (a.eventTime.length > 0) rows = agreeing(a.eventTime, i, b.eventTime, j, rows, 1);
  for (const [name, column] of a.event.ids) {
    const other = b.event.ids.get(name)!;
    const [o, p] = [a.event.offsets.get(name), b.event.offsets.get(name)];
    rows = o && p ? agreeingLists(column, o, i, other, p, j, rows) : agreeing(column, i, other, j, rows, 1);
  }
  const width = a.end > a.start ? a.event.numeric.length / (a.end - a.start) : 0;
  if (width > 0) rows = agreeing(a.event.numeric, i, b.event.numeric, j, rows, width);
  return from + rows;
}

/** How many of the rows of `width` from i and j on are the same. */
function agreeing(a: Numbers, i: number, b: Numbers, j: number, rows: number, width: number): number {
  if (sameBits(a.subarray(i * width, (i + rows) * width), b.subarray(j * width, (j + rows) * width))) return rows;
  // Bits, not values: a zero has two.
  const [x, y] = [bytesOf(a), bytesOf(b)];
  const size = width * a.BYTES_PER_ELEMENT;
  let n = 0;
  while (n < rows && x.compare(y, (j + n) * size, (j + n + 1) * size, (i + n) * size, (i + n + 1) * size) === 0) ++n;
  return n;
}

function agreeingLists(a: Int32Array, o: Int32Array, i: number, b: Int32Array, p: Int32Array, j: number, rows: number): number {
  let n = 0;
  while (n < rows && sameBits(a.subarray(o[i + n]!, o[i + n + 1]!), b.subarray(p[j + n]!, p[j + n + 1]!))) ++n;
  return n;
}

type Numbers = Int32Array | Float32Array | Float64Array;

const bytesOf = (a: Numbers): Buffer => Buffer.from(a.buffer, a.byteOffset, a.byteLength);

function sameBits(a: Numbers, b: Numbers): boolean {
  if (a.length !== b.length) return false;
  if (a.length <= 1) return Object.is(a[0], b[0]); // the features of a user: a Buffer of them would take longer
  return bytesOf(a).equals(bytesOf(b));
}

/** Groups that a rolling hash spans. */
const span = 4;

/**
 * Rolling hashes over the groups of a history: the one at group g stands for the groups in front of it, at most 4. They find caches that may
 * go on to a history; what decides is the comparison of their contents.
 */
export class GroupHashes {
  readonly #content: Content;
  readonly #merge: number;
  readonly #first: number;
  readonly #groups = new Map<number, number>();
  readonly #columns: readonly Int32Array[];

  constructor(content: Content, merge: number) {
    this.#content = content;
    this.#merge = merge;
    this.#first = Math.ceil(content.first / merge);
    this.#columns = [...content.event.ids].filter(([name]) => !content.event.offsets.has(name)).map(([, column]) => column);
  }

  /** Whole groups end in front of this one. */
  get last(): number {
    return Math.max(this.#first, Math.floor(this.#content.end / this.#merge));
  }

  get first(): number {
    return this.#first;
  }

  at(group: number): number {
    let hash = Math.imul(group, 0x9e3779b1);
    for (let g = Math.max(this.#first, group - span); g < group; ++g) hash = (Math.imul(hash, 0x01000193) + this.#of(g)) | 0;
    return hash;
  }

  #of(group: number): number {
    let hash = this.#groups.get(group);
    if (hash !== undefined) return hash;
    hash = group;
    const from = group * this.#merge - this.#content.start;
    for (const column of this.#columns) for (let e = from; e < from + this.#merge; ++e) hash = (Math.imul(hash ^ column[e]!, 0x85ebca6b) ^ (hash >>> 13)) | 0;
    const { eventTime } = this.#content;
    if (eventTime.length > 0) for (let e = from; e < from + this.#merge; ++e) hash = (Math.imul(hash ^ Math.floor(eventTime[e]!), 0x85ebca6b) ^ (hash >>> 13)) | 0;
    this.#groups.set(group, hash);
    return hash;
  }
}
