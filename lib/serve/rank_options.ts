import { LongerError } from '../errors.ts';
import type { CachePrecision } from '../model/pages.ts';
import { nearest } from '../schema/suggest.ts';

/** How calls are gathered and bounded. */
export interface RankServiceOptions {
  /** Microseconds that an idle service waits for company before it runs a batch; 0: for the calls that are made together. */
  readonly window: number;
  /** Candidates of one batch. */
  readonly rows: number;
  /** Candidates that one call has in a batch while others wait: a large call shares, a small one passes. */
  readonly slice: number;
  /** Events prefilled in one batch; one request may be more. */
  readonly events: number;
  /** Calls that may wait. One more is refused with ERR_OVERLOADED. */
  readonly maxCalls: number;
  /** Candidates that may wait, all calls together. */
  readonly maxRows: number;
  /** Candidates of one call. */
  readonly maxCandidates: number;
  /** Candidates of one call that may be explained. */
  readonly maxExplained: number;
  /** Events that a history may bring; the model uses the newest of them. */
  readonly maxEvents: number;
  /** Events of stored histories that are kept encoded, all users together; a history takes some 20 bytes an event there. */
  readonly encodedEvents: number;
  /** Milliseconds that a call may take where it names none. */
  readonly timeout: number;
  /** Bytes of pages for caches, allocated at once; they must hold a full history. */
  readonly cacheBytes: number;
  /** How keys and values lie in pages: 'model', as its precision computes them, or 'int8'. */
  readonly cachePrecision: CachePrecision;
  /** Seconds that a cache is used. */
  readonly cacheTtl: number;
  /** Milliseconds that the caches of the histories ranked last may take: before a model that is loaded is swapped in, and of a start from a history store (`warm`). */
  readonly warmup: number;
  /** Milliseconds that measuring takes, at a load, below how many candidates a call without `reuse` is scored plainly. */
  readonly crossover: number;
  /** That number, where it is not to be measured; 0: a cache is always made. */
  readonly plainBelow?: number;
  /** Share of the calls that a shadow model scores too, 0 to 1. */
  readonly shadowShare: number;
}

export const rankServiceDefaults: RankServiceOptions = {
  window: 0, rows: 512, slice: 256, events: 4096, maxCalls: 1024, maxRows: 65_536, maxCandidates: 5000, maxExplained: 100, maxEvents: 100_000, encodedEvents: 2 ** 20,
  timeout: 1000, cacheBytes: 2 ** 28, cachePrecision: 'model', cacheTtl: 7 * 86_400, warmup: 5000, crossover: 200, shadowShare: 1,
};

/** Least value of each option, and whether it is allowed itself. */
const least: Readonly<Record<Exclude<keyof RankServiceOptions, 'cachePrecision'>, readonly [value: number, itself: boolean]>> = {
  window: [0, true], rows: [1, true], slice: [1, true], events: [1, true], maxCalls: [1, true], maxRows: [1, true], maxCandidates: [1, true], maxExplained: [0, true], maxEvents: [1, true], encodedEvents: [0, true],
  timeout: [0, false], cacheBytes: [1, true], cacheTtl: [0, false], warmup: [0, true], crossover: [0, true], plainBelow: [0, true], shadowShare: [0, true],
};

/** @throws LongerError ERR_CONFIG naming the option */
export function checkRankServiceOptions({ cachePrecision, ...numbers }: RankServiceOptions): void {
  if (!(['model', 'int8'] as unknown[]).includes(cachePrecision)) throw new LongerError('ERR_CONFIG', `expected 'model' or 'int8', got ${String(cachePrecision)}`, { place: 'cachePrecision' });
  for (const [name, value] of Object.entries(numbers) as [keyof typeof least, number][]) {
    const known = least[name] as (typeof least)[keyof typeof least] | undefined;
    if (!known) {
      const near = nearest(name, [...Object.keys(least), 'cachePrecision']);
      throw new LongerError('ERR_CONFIG', 'there is no such option of a ranking service', { place: name, ...(near === undefined ? {} : { remedy: `Did you mean '${near}'?` }) });
    }
    const [from, itself] = known;
    const to = name === 'shadowShare' ? 1 : Infinity;
    if (typeof value === 'number' && (value > from || (itself && value === from)) && value <= to) continue;
    const range = to === 1 ? 'from 0 to 1' : itself ? `of at least ${from}` : `above ${from}`;
    throw new LongerError('ERR_CONFIG', `expected a number ${range}, got ${String(value)}`, { place: name });
  }
}
