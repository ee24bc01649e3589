import { LongerError } from '../errors.ts';
import { hashedRow } from './hash.ts';
import { type Field, type RequestOf, type Schema, type SchemaSpec, type SideDescription } from './schema.ts';

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
  /** Seconds; empty without time. */
  readonly eventTime: Float64Array;
  readonly time: number;
}

type Columns = Readonly<Record<string, ArrayLike<unknown>>>;

/**
 * Checks a request against its schema and encodes it.
 * @param place where the request comes from, for errors: `requests.jsonl:17`
 * @throws LongerError ERR_DATA naming the place and the feature
 */
export function encodeRequest<S extends SchemaSpec>(schema: Schema<S>, request: RequestOf<S>, place = 'request'): EncodedRequest {
  const r = request as unknown as Record<string, unknown>;
  const fail = failAt(place);
  const history = columnsOf(r['history'], schema.sides.event, schema.time, 'history', fail);
  const one = (side: 'user' | 'context'): EncodedSide => {
    const d = schema.sides[side];
    const value = r[side];
    if (d.fields.length + d.numeric.length === 0) return emptySide;
    if (typeof value !== 'object' || value === null) return fail(side, 'is missing');
    const row = value as Record<string, unknown>;
    return encodeSide(d, Object.fromEntries([...d.fields, ...d.numeric].map((f) => [f.name, [row[f.name]]])), 1, side, schema, fail, true);
  };
  const user = one('user');
  const event = encodeSide(schema.sides.event, history.columns, history.rows, 'history', schema, fail);

  let time = 0;
  let eventTime = new Float64Array(0);
  if (schema.time) {
    time = Number(r['time']);
    if (typeof r['time'] === 'bigint' ? false : typeof r['time'] !== 'number' || !Number.isFinite(time)) fail('time', `expected seconds, got ${String(r['time'])}`);
    eventTime = Float64Array.from({ length: history.rows }, (_, i) => Number(history.columns['time']![i]));
    for (let i = 0; i < eventTime.length; ++i) {
      const t = eventTime[i]!;
      if (!Number.isFinite(t)) fail(`history[${i}].time`, `expected seconds, got ${String(history.columns['time']![i])}`);
      if (i > 0 && t < eventTime[i - 1]!) fail(`history[${i}].time`, `time goes backwards: ${t} after ${eventTime[i - 1]}`, 'Histories are given oldest first');
      if (t > time) fail(`history[${i}].time`, `the event is later than the request (${t} > ${time})`, 'A history ends before its request');
    }
  }
  return {
    id: r['id'] === undefined || r['id'] === null ? undefined : String(r['id']),
    userKey: userKeyOf(r, schema),
    user, context: one('context'), event, events: history.rows, eventTime, time,
    ...encodeCandidates(schema, r['candidates'] as RequestOf<S>['candidates'], r['labels'] as RequestOf<S>['labels'], place),
  };
}

/**
 * Checks and encodes the candidates of one request, as rows or as columns, with their labels where there are any.
 * @throws LongerError ERR_DATA naming the place and the feature
 */
export function encodeCandidates<S extends SchemaSpec>(
  schema: Schema<S>, candidates: RequestOf<S>['candidates'], labels?: RequestOf<S>['labels'], place = 'request',
): EncodedCandidates {
  const fail = failAt(place);
  const { columns, rows } = columnsOf(candidates, schema.sides.candidate, false, 'candidates', fail);
  return {
    candidate: encodeSide(schema.sides.candidate, columns, rows, 'candidates', schema, fail),
    candidates: rows,
    labels: labelsOf(labels, schema, rows, fail),
  };
}

type Fail = (at: string, message: string, remedy?: string) => never;

const failAt = (place: string): Fail => (at, message, remedy) => {
  throw new LongerError('ERR_DATA', message, { place: `${place}: ${at}`, ...(remedy === undefined ? {} : { remedy }) });
};

const emptySide: EncodedSide = { ids: new Map(), offsets: new Map(), numeric: new Float32Array(0) };

function userKeyOf(r: Record<string, unknown>, schema: Schema): string {
  if (typeof r['userKey'] === 'string') return r['userKey'];
  const field = schema.sides.user.fields.find((f) => f.kind === 'id' && !f.boundaries);
  const user = r['user'] as Record<string, unknown> | undefined;
  return field && user ? String(user[field.name]) : String(r['id'] ?? '');
}

/** Rows as objects, or an object of columns, both as columns. */
function columnsOf(value: unknown, side: SideDescription, time: boolean, at: string, fail: Fail): { columns: Columns; rows: number } {
  const names = [...side.fields.map((f) => f.name), ...side.numeric.map((f) => f.name), ...(time ? ['time'] : [])];
  if (Array.isArray(value)) {
    const rows = value as Record<string, unknown>[];
    rows.forEach((row, i) => { if (typeof row !== 'object' || row === null) fail(`${at}[${i}]`, 'expected an object'); });
    return { columns: Object.fromEntries(names.map((n) => [n, rows.map((row) => row[n])])), rows: rows.length };
  }
  if (typeof value !== 'object' || value === null) return fail(at, 'expected a list of objects or an object of columns');
  const columns = value as Columns;
  let rows = -1;
  for (const name of names) {
    const column = columns[name];
    if (column === undefined || column === null || typeof column.length !== 'number') return fail(`${at}.${name}`, 'the column is missing');
    if (rows >= 0 && column.length !== rows) return fail(`${at}.${name}`, `the column has ${column.length} rows, the others ${rows}`);
    rows = column.length;
  }
  return { columns, rows: Math.max(0, rows) };
}

function encodeSide(side: SideDescription, columns: Columns, rows: number, at: string, schema: Schema, fail: Fail, single = false): EncodedSide {
  const ids = new Map<string, Int32Array>();
  const offsets = new Map<string, Int32Array>();
  const where = (name: string, i: number): string => (single ? `${at}.${name}` : `${at}[${i}].${name}`);
  for (const f of side.fields) {
    const column = columns[f.name]!;
    const size = schema.tables[f.table]!.size;
    if (f.kind === 'id') {
      const out = new Int32Array(rows);
      for (let i = 0; i < rows; ++i) out[i] = rowOf(f, size, column[i], () => where(f.name, i), fail);
      ids.set(f.name, out);
      continue;
    }
    const first = new Int32Array(rows + 1);
    const all: number[] = [];
    for (let i = 0; i < rows; ++i) {
      const list = (column[i] ?? []) as ArrayLike<unknown>;
      if (typeof list !== 'object') fail(where(f.name, i), 'expected a list of ids');
      for (let j = 0; j < list.length; ++j) all.push(rowOf(f, size, list[j], () => `${where(f.name, i)}[${j}]`, fail));
      first[i + 1] = all.length;
    }
    ids.set(f.name, Int32Array.from(all));
    offsets.set(f.name, first);
  }
  const numeric = new Float32Array(rows * side.numeric.length);
  side.numeric.forEach((f, n) => {
    const column = columns[f.name]!;
    for (let i = 0; i < rows; ++i) {
      const v = column[i];
      if ((v === null || v === undefined) && f.optional) continue; // the mean
      const x = typeof v === 'bigint' ? Number(v) : v;
      if (typeof x !== 'number' || !Number.isFinite(x)) fail(where(f.name, i), `expected a number, got ${String(v)}`, 'Mark the feature optional if it can be missing');
      numeric[i * side.numeric.length + n] = ((x as number) - f.mean) / f.std;
    }
  });
  return { ids, offsets, numeric };
}

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
    const x = Number(value);
    if (!Number.isFinite(x)) return fail(where(), `expected a number, got ${String(value)}`);
    let bucket = 0;
    while (bucket < f.boundaries.length && f.boundaries[bucket]! <= x) ++bucket;
    return bucket;
  }
  if (f.hash) {
    if (typeof value === 'bigint' || typeof value === 'string') return hashedRow(value, size);
    if (typeof value === 'number' && Number.isSafeInteger(value)) return hashedRow(value, size);
    return fail(where(), `expected an id (whole number, bigint or string), got ${String(value)}`);
  }
  const n = typeof value === 'bigint' ? Number(value) : NaN;
  if (Number.isInteger(n) && n >= 0 && n < size) return n;
  return fail(where(), `expected an id from 0 to ${size - 1}, got ${typeof value === 'string' ? JSON.stringify(value) : String(value)}`, `Strings and large ids need a hashed table: { hash: true }`);
}

function labelsOf(value: unknown, schema: Schema, rows: number, fail: Fail): Float32Array {
  const tasks = schema.tasks.length;
  const out = new Float32Array(rows * tasks).fill(NaN);
  if (value === undefined || value === null) return out;
  const labels = value as Record<string, ArrayLike<unknown> | undefined>;
  schema.tasks.forEach(({ name }, t) => {
    const list = labels[name];
    if (list === undefined || list === null) return;
    if (list.length !== rows) fail(`labels.${name}`, `${list.length} labels for ${rows} candidates`);
    for (let i = 0; i < rows; ++i) {
      const v = list[i];
      if (v === null || v === undefined) continue;
      const x = Number(v);
      if (x !== 0 && x !== 1) fail(`labels.${name}[${i}]`, `a label is 0 or 1, got ${String(v)}`);
      out[i * tasks + t] = x;
    }
  });
  return out;
}
