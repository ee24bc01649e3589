import { LongerError } from '../errors.ts';

/** Throws an error about a part of what was given. */
export type Fail = (at: string, message: string, remedy?: string) => never;

/** Errors at a part of `place`. */
export const failAt = (place: string): Fail => (at, message, remedy) => {
  throw new LongerError('ERR_DATA', message, { place: `${place}: ${at}`, ...(remedy === undefined ? {} : { remedy }) });
};

/** For messages: short, and a text in quotes. Whatever the value is, what it holds is not called. */
export function show(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return `a ${(Object.getPrototypeOf(value) as { readonly constructor?: { readonly name: string } } | null)?.constructor?.name ?? 'value'}`;
  const text = typeof value === 'string' ? JSON.stringify(value.slice(0, 60)) : String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
