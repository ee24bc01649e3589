import { LongerError } from '../errors.ts';
import { type Fail, failAt, show } from './fail.ts';
import { expectNoneNear, isDetached, isObject, requestKeys } from './given.ts';
import { has64Bits, hashedRow } from './hash.ts';
import { nearest } from './suggest.ts';
import { expectInOrder, seconds } from './times.ts';
import { expectSchema, type Field, type RequestOf, type Schema, type SchemaSpec, type SideDescription } from './schema.ts';

/** One side of a request as columns. */
export interface EncodedSide {
  /** Table rows by feature; -1 where missing. */
  readonly ids: ReadonlyMap<string, Int32Array>;
  /** First id of each row, of multi-valued features: [rows + 1]. */
  readonly offsets: ReadonlyMap<string, Int32Array>;
  /** Standardised numbers [rows, count]. */
  readonly numeric: Float32Array;
}

/** The candidates of one request, checked and in typed arrays. */
export interface EncodedCandidates {
  /** Hash of the schema that they were encoded with. */
  readonly schema: string;
  readonly candidate: EncodedSide;
  readonly candidates: number;
  /** [candidates, tasks]; NaN where there is no label. */
  readonly labels: Float32Array;
}

/** A request checked and in typed arrays. */
export interface EncodedRequest extends EncodedCandidates {
  readonly id: string | undefined;
  readonly userKey: string;
  readonly user: EncodedSide;
  readonly context: EncodedSide;
  /** Oldest first. */
  readonly event: EncodedSide;
  readonly events: number;
  /** How many events the user had before the first of these. */
  readonly historyStart: number;
  /** Seconds; empty without time. */
  readonly eventTime: Float64Array;
  readonly time: number;
}

/** A column of lists of numbers without an array a row: the numbers end to end, and where each row's begin, [rows + 1]. */
export class NumberLists {
  readonly offsets: Int32Array;
  readonly values: Int32Array | Float64Array;
  /** It stands where an ArrayLike does, but its rows are read by `row`. */
  readonly [index: number]: never;

  constructor(offsets: Int32Array, values: Int32Array | Float64Array) {
    this.offsets = offsets;
    this.values = values;
  }

  /** Rows. */
  get length(): number {
    return this.offsets.length - 1;
  }

  row(i: number): Int32Array | Float64Array {
    return this.values.subarray(this.offsets[i]!, this.offsets[i + 1]!);
  }
}

const cell = (column: ArrayLike<unknown>, i: number): unknown => (column instanceof NumberLists ? column.row(i) : column[i]);

type Columns = Readonly<Record<string, ArrayLike<unknown>>>;

/**
 * Checks a request against its schema and encodes it.
 * @param place where the request comes from, for errors: `requests.jsonl:17`
 * @param events its history, where that was encoded before
 * @throws LongerError ERR_DATA naming the place and the feature
 */
export function encodeRequest<S extends SchemaSpec>(schema: Schema<S>, request: RequestOf<S>, place = 'request', events?: EncodedEvents): EncodedRequest {
  expectSchema(schema);
  const fail = failAt(place);
  if (!isObject(request)) throw new LongerError('ERR_DATA', `expected a request, got ${show(request)}`, { place });
  const r = request as unknown as Record<string, unknown>;
  const time = schema.time ? seconds(r['time'], 'time', fail) : 0;
  if (typeof r['id'] === 'object' && r['id'] !== null) fail('id', `expected a text or a number, got ${show(r['id'])}`);
  expectNoneNear(['labels', 'historyStart', 'userKey'].filter((key) => r[key] === undefined), r, '', fail, requestKeys);
  // They are in order among themselves.
  if (events && events.eventTime.length > 0 && events.eventTime.at(-1)! > time) expectInOrder(events.eventTime, -Infinity, time, fail);
  return {
    id: r['id'] === undefined || r['id'] === null ? undefined : String(r['id']),
    user: encodeOne(schema, 'user', r, fail), context: encodeOne(schema, 'context', r, fail), ...(events ?? encodeEvents(schema, r, time, fail)),
    userKey: userKeyOf(r, schema, fail), time,
    ...encodeCandidates(schema, r['candidates'] as RequestOf<S>['candidates'], r['labels'] as RequestOf<S>['labels'], place),
  };
}

function encodeOne(schema: Schema, side: 'user' | 'context', r: Record<string, unknown>, fail: Fail): EncodedSide {
  const d = schema.sides[side];
  const value = r[side];
  if (d.fields.length + d.numeric.length === 0) return emptySide;
  if (!isObject(value)) return fail(side, value === undefined || value === null ? 'is missing' : `expected an object, got ${show(value)}`);
  const columns: Record<string, ArrayLike<unknown>> = {};
  for (const name of d.names) columns[name] = [value[name]];
  expectNoneNear(d.mayLack.filter((name) => value[name] === undefined), value, `${side}.`, fail, d.names);
  return encodeSide(d, columns, 1, side, schema, fail, true);
}

/** The event side of a request. */
export type EncodedEvents = Pick<EncodedRequest, 'event' | 'events' | 'historyStart' | 'eventTime'>;

/** @param after time of an event that stands in front of the first */
function encodeEvents(schema: Schema, r: Record<string, unknown>, time: number, fail: Fail, after = -Infinity): EncodedEvents {
  const history = columnsOf(r['history'], schema.sides.event, schema.time, 'history', fail);
  const event = encodeSide(schema.sides.event, history.columns, history.rows, 'history', schema, fail);
  let eventTime = new Float64Array(0);
  if (schema.time) {
    eventTime = Float64Array.from({ length: history.rows }, (_, i) => seconds(cell(history.columns['time']!, i), `history[${i}].time`, fail));
    expectInOrder(eventTime, after, time, fail);
  }
  return { event, events: history.rows, historyStart: startOf(r['historyStart'], history.rows, fail), eventTime };
}

/**
 * A request with more events: newer ones, the request's new time, and where they are given a new user and context. Its candidates go.
 * @param from first of its events that stays, the others having no use any more
 * @throws LongerError ERR_DATA naming the place and the feature
 */
export function encodeGrowth(schema: Schema, request: EncodedRequest, growth: object, from: number, place = 'request'): EncodedRequest {
  const fail = failAt(place);
  const r = growth as Record<string, unknown>;
  if (!isObject(growth)) throw new LongerError('ERR_DATA', `expected new events, got ${show(growth)}`, { place });
  const time = schema.time ? seconds(r['time'], 'time', fail) : 0;
  if (time < request.time) fail('time', `time goes backwards: ${time} after ${request.time}`);
  const added = encodeEvents(schema, { history: r['history'] }, time, fail, request.eventTime.at(-1));
  const side = (name: 'user' | 'context'): EncodedSide => (r[name] === undefined ? request[name] : encodeOne(schema, name, r, fail));
  const dropped = Math.min(from, request.events);
  const eventTime = new Float64Array(schema.time ? request.events - dropped + added.events : 0);
  eventTime.set(request.eventTime.subarray(dropped));
  eventTime.set(added.eventTime, Math.max(0, eventTime.length - added.events));
  return {
    ...request, ...encodeCandidates(schema, [] as never, undefined, place), user: side('user'), context: side('context'), time, eventTime,
    event: joinSides(request.event, schema.sides.event.numericCount, dropped, added.event), events: request.events - dropped + added.events,
    historyStart: startOf(request.historyStart + dropped, added.events, fail),
  };
}

/** Rows of a side from one on, and those of another behind them. */
function joinSides(a: EncodedSide, numericCount: number, from: number, b: EncodedSide): EncodedSide {
  const ids = new Map<string, Int32Array>();
  const offsets = new Map<string, Int32Array>();
  for (const [name, column] of a.ids) {
    const [rowsA, rowsB] = [a.offsets.get(name), b.offsets.get(name)];
    const kept = column.subarray(rowsA ? rowsA[from]! : from);
    const all = new Int32Array(kept.length + b.ids.get(name)!.length);
    all.set(kept);
    all.set(b.ids.get(name)!, kept.length);
    ids.set(name, all);
    if (!rowsA || !rowsB) continue;
    const first = new Int32Array(rowsA.length - from + rowsB.length - 1);
    first.set(rowsA.subarray(from).map((o) => o - rowsA[from]!));
    first.set(rowsB.subarray(1).map((o) => o + kept.length), rowsA.length - from);
    offsets.set(name, first);
  }
  const numeric = new Float32Array(a.numeric.length - from * numericCount + b.numeric.length);
  numeric.set(a.numeric.subarray(from * numericCount));
  numeric.set(b.numeric, numeric.length - b.numeric.length);
  return { ids, offsets, numeric };
}

/**
 * Checks and encodes the candidates of one request, as rows or as columns, with their labels where there are any.
 * @throws LongerError ERR_DATA naming the place and the feature
 */
export function encodeCandidates<S extends SchemaSpec>(
  schema: Schema<S>, candidates: RequestOf<S>['candidates'], labels?: RequestOf<S>['labels'], place = 'request',
): EncodedCandidates {
  expectSchema(schema);
  const fail = failAt(place);
  const { columns, rows } = columnsOf(candidates, schema.sides.candidate, false, 'candidates', fail);
  return {
    schema: schema.hash,
    candidate: encodeSide(schema.sides.candidate, columns, rows, 'candidates', schema, fail),
    candidates: rows,
    labels: labelsOf(labels, schema, rows, fail),
  };
}

/** @throws LongerError ERR_SCHEMA for what another schema has encoded, whose ids and numbers mean something else */
export function expectEncodedBy(schema: Schema, encoded: EncodedCandidates, place: string): void {
  if (!(isObject(encoded) && (encoded as Partial<EncodedCandidates>).labels instanceof Float32Array))
    throw new LongerError('ERR_DATA', `expected what encodeRequest gives, got ${show(encoded)}`, { place, remedy: 'Encode it: encodeRequest(schema, request)' });
  if (encoded.schema !== schema.hash) throw new LongerError('ERR_SCHEMA', 'it was encoded with another schema', { place, remedy: 'Encode it with the schema of the model' });
}

const emptySide: EncodedSide = { ids: new Map(), offsets: new Map(), numeric: new Float32Array(0) };

/** Rows of which nothing is known: ids are missing, lists empty, numbers at their means. */
export const unknownSide = ({ fields, numericCount }: SideDescription, rows = 1): EncodedSide => ({
  ids: new Map(fields.map(({ name, kind }) => [name, kind === 'id' ? new Int32Array(rows).fill(-1) : new Int32Array(0)])),
  offsets: new Map(fields.filter(({ kind }) => kind !== 'id').map(({ name }) => [name, new Int32Array(rows + 1)])),
  numeric: new Float32Array(rows * numericCount),
});

/** Ordinals are 32-bit, as all indices are. */
function startOf(value: unknown, events: number, fail: Fail): number {
  const n = value === undefined || value === null ? 0 : typeof value === 'bigint' ? Number(value) : value;
  if (typeof n !== 'number' || !Number.isSafeInteger(n) || n < 0 || n + events > 0x7fffffff) return fail('historyStart', `expected a whole number of events, got ${show(value)}`);
  return n;
}

function userKeyOf(r: Record<string, unknown>, schema: Schema, fail: Fail): string {
  const key = r['userKey'];
  if (typeof key === 'string' || typeof key === 'number' || typeof key === 'bigint') return String(key);
  if (key !== undefined && key !== null) return fail('userKey', `expected a text or a number, got ${show(key)}`);
  const field = schema.sides.user.fields.find((f) => f.kind === 'id' && !f.boundaries);
  const user = r['user'] as Record<string, unknown> | undefined;
  return field && user ? String(user[field.name]) : String(r['id'] ?? '');
}

/** Rows as objects, or an object of columns, both as columns. */
function columnsOf(value: unknown, side: SideDescription, time: boolean, at: string, fail: Fail): { columns: Columns; rows: number } {
  const names = time ? [...side.names, 'time'] : [...side.names];
  const columns: Record<string, ArrayLike<unknown>> = {};
  if (Array.isArray(value)) {
    const rows = value as Record<string, unknown>[];
    for (let i = 0; i < rows.length; ++i) if (!isObject(rows[i])) fail(`${at}[${i}]`, `expected an object, got ${show(rows[i])}`);
    for (const name of names) columns[name] = rows.map((row) => row[name]);
    if (rows.length > 0) expectNoneNear(side.mayLack.filter((name) => rows.every((row) => row[name] === undefined)), rows[0]!, `${at}[0].`, fail, side.names);
    return { columns, rows: rows.length };
  }
  if (!isObject(value)) return fail(at, `expected a list of objects or an object of columns, got ${show(value)}`);
  const optional = new Set([...side.fields, ...side.numeric].filter((f) => f.optional).map((f) => f.name));
  let rows = -1;
  for (const name of names) {
    const column = value[name];
    if ((column === undefined || column === null) && optional.has(name)) {
      expectNoneNear([name], value, `${at}.`, fail, side.names);
      columns[name] = [];
      continue;
    }
    if (column === undefined || column === null) return fail(`${at}.${name}`, 'the column is missing');
    if (!isList(column)) return fail(`${at}.${name}`, `expected a list, got ${show(column)}`);
    if (isDetached(column)) return fail(`${at}.${name}`, 'its memory was transferred to another thread', 'Give a copy');
    if (rows >= 0 && column.length !== rows) return fail(`${at}.${name}`, `the column has ${column.length} rows, the others ${rows}`);
    rows = column.length;
    columns[name] = column;
  }
  if (rows < 0) return fail(at, 'no column says how many rows there are', 'Give the rows as a list of objects, or one of its columns');
  return { columns, rows };
}

const isList = (value: unknown): value is ArrayLike<unknown> => Array.isArray(value) || value instanceof NumberLists || (ArrayBuffer.isView(value) && !(value instanceof DataView));

function encodeSide(side: SideDescription, columns: Columns, rows: number, at: string, schema: Schema, fail: Fail, single = false): EncodedSide {
  const ids = new Map<string, Int32Array>();
  const offsets = new Map<string, Int32Array>();
  const where = (name: string, i: number): string => (single ? `${at}.${name}` : `${at}[${i}].${name}`);
  for (const f of side.fields) {
    const column = columns[f.name]!;
    const size = schema.tables[f.table]!.size;
    const plain = !f.hash && !f.boundaries;
    if (f.kind === 'id') {
      const out = new Int32Array(rows);
      for (let i = 0; i < rows; ++i) {
        const id = cell(column, i);
        out[i] = plain && isRow(id, size) ? id : rowOf(f, size, id, () => where(f.name, i), fail);
      }
      ids.set(f.name, out);
      continue;
    }
    if (column instanceof NumberLists && plain && column.values.every((id) => isRow(id, size))) {
      ids.set(f.name, Int32Array.from(column.values));
      offsets.set(f.name, column.offsets);
      continue;
    }
    const first = new Int32Array(rows + 1);
    const all: number[] = [];
    for (let i = 0; i < rows; ++i) {
      const list = cell(column, i) ?? [];
      if (!isList(list)) return fail(where(f.name, i), `expected a list of ids, got ${show(list)}`);
      for (let j = 0; j < list.length; ++j) {
        const id = list[j];
        all.push(plain && isRow(id, size) ? id : rowOf(f, size, id, () => `${where(f.name, i)}[${j}]`, fail));
      }
      first[i + 1] = all.length;
    }
    ids.set(f.name, Int32Array.from(all));
    offsets.set(f.name, first);
  }
  const numeric = new Float32Array(rows * side.numeric.length);
  side.numeric.forEach((f, n) => {
    const column = columns[f.name]!;
    for (let i = 0; i < rows; ++i) {
      const v = cell(column, i);
      if ((v === null || v === undefined) && f.optional) continue; // the mean
      const x = typeof v === 'bigint' ? Number(v) : v;
      if (typeof x !== 'number' || !Number.isFinite(x)) return fail(where(f.name, i), v === null || v === undefined ? 'the number is missing' : `expected a number, got ${show(v)}`, 'Mark the feature optional if it can be missing');
      const standard = Math.fround((x - f.mean) / f.std);
      if (!Number.isFinite(standard)) return fail(where(f.name, i), `(${x} - mean) / std is too large for a float`, 'Leave the row out, or set the mean and std of the feature');
      numeric[i * side.numeric.length + n] = standard;
    }
  });
  return { ids, offsets, numeric };
}

/** A number that is a row of a table as it stands. */
const isRow = (id: unknown, size: number): id is number => typeof id === 'number' && id >= 0 && id < size && Number.isInteger(id);

function rowOf(f: Field, size: number, value: unknown, where: () => string, fail: Fail): number {
  if (typeof value === 'number' && !f.hash && !f.boundaries) {
    if (Number.isInteger(value) && value >= 0 && value < size) return value;
    return fail(where(), `expected an id from 0 to ${size - 1}, got ${value}`, `Make the table '${f.table}' larger, or hash the ids`);
  }
  if (value === null || value === undefined) {
    if (f.optional) return -1;
    return fail(where(), 'the id is missing', 'Mark the feature optional if it can be missing');
  }
  if (f.boundaries) {
    const x = typeof value === 'bigint' ? Number(value) : value;
    if (typeof x !== 'number' || !Number.isFinite(x)) return fail(where(), `expected a number, got ${show(value)}`);
    let bucket = 0;
    while (bucket < f.boundaries.length && f.boundaries[bucket]! <= x) ++bucket;
    return bucket;
  }
  if (f.hash) {
    if (typeof value === 'string' || (typeof value === 'bigint' && has64Bits(value))) return hashedRow(value, size);
    if (typeof value === 'bigint') return fail(where(), `expected an id of 64 bits, got ${show(value)}`, 'Give longer ids as strings');
    if (typeof value === 'number' && Number.isSafeInteger(value)) return hashedRow(value, size);
    return fail(where(), `expected an id (whole number, bigint or string), got ${show(value)}`, typeof value === 'number' && Number.isInteger(value) ? 'Above 2^53 a number is not exact: give a string or a bigint' : undefined);
  }
  const n = typeof value === 'bigint' ? Number(value) : NaN;
  if (Number.isInteger(n) && n >= 0 && n < size) return n;
  return fail(where(), `expected an id from 0 to ${size - 1}, got ${show(value)}`, `Strings and large ids need a hashed table: { hash: true }`);
}

function labelsOf(value: unknown, schema: Schema, rows: number, fail: Fail): Float32Array {
  const tasks = schema.tasks.length;
  const out = new Float32Array(rows * tasks).fill(NaN);
  if (value === undefined || value === null) return out;
  if (typeof value !== 'object' || Array.isArray(value)) return fail('labels', `expected an object with a list a task, got ${show(value)}`);
  const labels = value as Readonly<Record<string, unknown>>;
  schema.tasks.forEach(({ name }, t) => {
    const list = labels[name];
    if (list === undefined || list === null) {
      const meant = nearest(name, Object.keys(labels).filter((key) => !schema.tasks.some((task) => task.name === key)));
      if (meant !== undefined) fail(`labels.${meant}`, `there is no task '${meant}'; did you mean '${name}'?`);
      return;
    }
    if (!isList(list)) return fail(`labels.${name}`, `expected a list, got ${show(list)}`);
    if (list.length !== rows) fail(`labels.${name}`, `${list.length} labels for ${rows} candidates`);
    for (let i = 0; i < rows; ++i) {
      const v = list[i];
      if (v === null || v === undefined) continue;
      const x = typeof v === 'bigint' || typeof v === 'boolean' ? Number(v) : v;
      if (x !== 0 && x !== 1) fail(`labels.${name}[${i}]`, `a label is 0 or 1, got ${show(v)}`);
      out[i * tasks + t] = x as number;
    }
  });
  const names = schema.tasks.map((task) => task.name);
  const [stray] = Object.keys(labels);
  if (stray !== undefined && !Object.keys(labels).some((key) => names.includes(key))) fail(`labels.${stray}`, `there is no task '${stray}'`, `Known are ${names.join(', ')}`);
  return out;
}
