import { type Fail, show } from './fail.ts';

/** Seconds of the year 5000, the last that are taken: what lies past them counts something smaller, as Date.now() does. */
export const lastTime = Date.UTC(5000, 0) / 1000;

/** A date means its own seconds; anything else has to be a finite number. */
export function seconds(value: unknown, at: string, fail: Fail): number {
  const t = value instanceof Date ? value.getTime() / 1000 : typeof value === 'bigint' ? Number(value) : value;
  if (typeof t !== 'number' || !Number.isFinite(t)) return fail(at, value === undefined || value === null ? 'the time is missing' : `expected seconds, got ${show(value)}`);
  if (t > lastTime) return fail(at, `expected seconds, got ${t}, which lies past the year 5000`, 'Divide milliseconds by 1000');
  return t;
}

/** How an error speaks of the times of events: the place of one, and its value as the caller wrote it. */
export interface WrittenTimes {
  readonly at: (i: number) => string;
  readonly value: (seconds: number, i: number) => unknown;
  /** The request's, where it is not the number of seconds. */
  readonly request?: unknown;
}

/**
 * Holds times of events, oldest first, to their order and their request's time.
 * @param after time of an event that stands in front of the first @param until the request's; Infinity for events without a request
 */
export function expectInOrder(times: Float64Array, after: number, until: number, fail: Fail, written: Partial<WrittenTimes> = {}): void {
  const { at = (i) => `history[${i}].time`, value = (t) => t, request = until } = written;
  times.forEach((t, i) => {
    const last = i === 0 ? after : times[i - 1]!;
    if (t < last) fail(at(i), `time goes backwards: ${value(t, i)} after ${i === 0 ? last : value(last, i - 1)}`, 'Histories are given oldest first');
    if (t > until) fail(at(i), `the event is later than the request (${value(t, i)} > ${request})`, 'A history ends before its request');
  });
}
