import { LongerError } from '../errors.ts';
import { type Fail, show } from './fail.ts';
import { nearest } from './suggest.ts';

/** What callers give, looked at before it is known to be anything. */

/** An object with keys: no list, and no Map, whose entries are none. */
export const isObject = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Map);

/** Of requests, and of calls for their ranking. */
export const requestKeys: ReadonlySet<string> = new Set(['id', 'user', 'userKey', 'userId', 'context', 'time', 'history', 'historyStart', 'candidates', 'labels', 'tasks', 'topK', 'explain', 'reuse']);

const withoutDigits = (key: string): string => key.replace(/\d+/g, '');

/** More keys than these are no row's, and are not looked through: a body may have millions. */
const mostKeys = 200;

/**
 * What may be left out and is misspelt would not be missed. Names that differ in digits alone are columns of their own.
 * @param lacking names of what is not there @param known other names; `time` is one everywhere
 */
export function expectNoneNear(lacking: readonly string[], r: Readonly<Record<string, unknown>>, at: string, fail: Fail, known: ReadonlySet<string>): void {
  if (lacking.length === 0) return;
  const keys = Object.keys(r);
  const strangers = keys.length > mostKeys ? [] : keys.filter((key) => !known.has(key) && key !== 'time' && !lacking.includes(key));
  if (strangers.length === 0) return;
  for (const name of lacking) {
    const meant = nearest(name, strangers.filter((key) => withoutDigits(key) !== withoutDigits(name)));
    if (meant !== undefined) fail(`${at}${meant}`, `unknown key; did you mean '${name}'?`);
  }
}

/** Of a view whose memory has gone elsewhere, which looks like an empty one. */
export function isDetached(column: ArrayLike<unknown>): boolean {
  if (column.length > 0 || !ArrayBuffer.isView(column)) return false;
  try {
    new Uint8Array(column.buffer);
    return false;
  } catch {
    return true;
  }
}

/** @throws LongerError ERR_CONFIG for options that are no object, or one that is not known */
export function expectOptions<T extends object>(options: T, known: readonly (keyof T & string)[], place: string): void {
  if (!isObject(options)) throw new LongerError('ERR_CONFIG', `expected an object of options, got ${show(options)}`, { place });
  const stray = Object.keys(options).find((key) => !(known as readonly string[]).includes(key));
  if (stray === undefined) return;
  const near = nearest(stray, known);
  throw new LongerError('ERR_CONFIG', `there is no option '${stray}'`, { place, remedy: near === undefined ? `Known are ${known.join(', ')}` : `Did you mean '${near}'?` });
}

/** @throws LongerError ERR_DATA */
export function expectList(value: unknown, place: string, remedy: string): void {
  if (!Array.isArray(value)) throw new LongerError('ERR_DATA', `expected a list, got ${show(value)}`, { place, remedy });
}

/** @throws LongerError */
export function expectPath(path: unknown, place: string, code: 'ERR_DATA' | 'ERR_CHECKPOINT'): void {
  if (typeof path !== 'string' || path === '') throw new LongerError(code, `expected a path, got ${show(path)}`, { place });
}
