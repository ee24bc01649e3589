import { LongerError, type LongerErrorCode } from '../errors.ts';
import type { EncodedRequest, EncodedSide } from '../schema/encode.ts';
import { type Schema, type Side, sides } from '../schema/schema.ts';
import type { EncodedRow } from './encoded_rows.ts';

/** An error as one thread sends it to another: classes do not travel. */
export interface SentError {
  readonly code?: LongerErrorCode;
  readonly message: string;
  readonly place?: string;
  readonly remedy?: string;
  readonly cause?: string;
}

/** A row as one thread sends it to another; all numbers of a request stand in one buffer, which is handed over, not copied. */
export type SentRow = { readonly count: number } & ({ readonly error: SentError } | SentRequest);
type SentRequest = Pick<EncodedRequest, 'id' | 'userKey' | 'time' | 'historyStart' | 'events' | 'candidates'> & { readonly buffer: ArrayBuffer };

export function sendRow({ row, count }: EncodedRow, schema: Schema): SentRow {
  if (row instanceof LongerError) return { count, error: sendError(row) };
  const { id, userKey, time, historyStart, events, candidates } = row;
  return { count, id, userKey, time, historyStart, events, candidates, buffer: endToEnd(arraysOf(row, schema)) };
}

export function receiveRow(sent: SentRow, schema: Schema): EncodedRow {
  const { count } = sent;
  if ('error' in sent) return { count, row: receiveError(sent.error) as LongerError };
  const { id, userKey, time, historyStart, events, candidates, buffer } = sent;
  let at = 0;
  const take = <T>(type: { new (buffer: ArrayBuffer, at: number, n: number): T; readonly BYTES_PER_ELEMENT: number }, n: number): T => {
    const array = new type(buffer, at, n);
    at += n * type.BYTES_PER_ELEMENT;
    return array;
  };
  const eventTime = take(Float64Array, schema.time ? events : 0);
  const side = (name: Side): EncodedSide => {
    const rows = { user: 1, context: 1, event: events, candidate: candidates }[name];
    const ids = new Map<string, Int32Array>();
    const offsets = new Map<string, Int32Array>();
    for (const f of schema.sides[name].fields) {
      if (f.kind === 'ids') offsets.set(f.name, take(Int32Array, rows + 1));
      ids.set(f.name, take(Int32Array, offsets.get(f.name)?.[rows] ?? rows));
    }
    return { ids, offsets, numeric: take(Float32Array, rows * schema.sides[name].numericCount) };
  };
  const [user, context, event, candidate] = sides.map(side) as [EncodedSide, EncodedSide, EncodedSide, EncodedSide];
  return { count, row: { schema: schema.hash, id, userKey, time, historyStart, events, candidates, eventTime, user, context, event, candidate, labels: take(Float32Array, candidates * schema.tasks.length) } };
}

/** In the order in which `receiveRow` takes them; the widest come first, so that all are aligned. */
function arraysOf(row: EncodedRequest, schema: Schema): (Float64Array | Float32Array | Int32Array)[] {
  const ofSide = (name: Side): (Float32Array | Int32Array)[] => {
    const { ids, offsets, numeric } = row[name];
    return [...schema.sides[name].fields.flatMap((f) => (f.kind === 'ids' ? [offsets.get(f.name)!, ids.get(f.name)!] : [ids.get(f.name)!])), numeric];
  };
  return [row.eventTime, ...sides.flatMap(ofSide), row.labels];
}

function endToEnd(arrays: readonly (Float64Array | Float32Array | Int32Array)[]): ArrayBuffer {
  const all = new Uint8Array(arrays.reduce((n, a) => n + a.byteLength, 0));
  let at = 0;
  for (const a of arrays) {
    all.set(new Uint8Array(a.buffer, a.byteOffset, a.byteLength), at);
    at += a.byteLength;
  }
  return all.buffer;
}

export function sendError(error: unknown): SentError {
  if (!(error instanceof LongerError)) return { message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  const { code, reason, place, remedy, cause } = error;
  return {
    code, message: reason,
    ...(place === undefined ? {} : { place }), ...(remedy === undefined ? {} : { remedy }), ...(cause === undefined ? {} : { cause: cause instanceof Error ? cause.message : String(cause) }),
  };
}

export function receiveError({ code, message, cause, ...rest }: SentError): Error {
  return code === undefined ? new Error(message) : new LongerError(code, message, { ...rest, ...(cause === undefined ? {} : { cause: new Error(cause) }) });
}
