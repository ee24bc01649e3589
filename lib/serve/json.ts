import { LongerError } from '../errors.ts';

/** JSON of a value, with ids above 2^53 as texts, which mean the same rows (`hashedRow`). @throws LongerError ERR_DATA naming the key of a number that it cannot carry: NaN, infinity */
export const exactJson = (value: unknown): string => JSON.stringify(value, exact);

function exact(key: string, value: unknown): unknown {
  if (ArrayBuffer.isView(value)) return Array.from(value as Int32Array);
  if (typeof value === 'number' && !Number.isFinite(value)) throw new LongerError('ERR_DATA', `JSON cannot carry ${value}`, { place: key });
  if (typeof value !== 'bigint') return value;
  return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
}
