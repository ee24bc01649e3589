import { LongerError } from '../errors.ts';

/** JSON of a value whose numbers it can carry. @throws LongerError ERR_DATA naming the key of one that it would change: NaN, infinity, an id above 2^53 */
export const exactJson = (value: unknown): string => JSON.stringify(value, exact);

function exact(key: string, value: unknown): unknown {
  if (ArrayBuffer.isView(value)) return Array.from(value as Int32Array);
  const bad = (what: string): never => {
    throw new LongerError('ERR_DATA', `JSON cannot carry ${what}`, { place: key });
  };
  if (typeof value === 'number' && !Number.isFinite(value)) return bad(String(value));
  if (typeof value !== 'bigint') return value;
  return Number.isSafeInteger(Number(value)) ? Number(value) : bad('an id above 2^53');
}
