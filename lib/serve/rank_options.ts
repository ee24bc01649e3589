import { LongerError } from '../errors.ts';

/** How calls are gathered and bounded. */
export interface RankServiceOptions {
  /** Microseconds that an idle service waits for company before it runs a batch; 0: what came in one turn of the event loop. */
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
  /** Events that a history may bring; the model uses the newest of them. */
  readonly maxEvents: number;
  /** Milliseconds that a call may take where it names none. */
  readonly timeout: number;
  /** Bytes of caches. */
  readonly cacheBytes: number;
  /** Seconds that a cache is used. */
  readonly cacheTtl: number;
  /** Share of the calls that a shadow model scores too, 0 to 1. */
  readonly shadowShare: number;
}

export const rankServiceDefaults: RankServiceOptions = {
  window: 200, rows: 1024, slice: 256, events: 16_384, maxCalls: 1024, maxRows: 65_536, maxCandidates: 5000, maxEvents: 100_000,
  timeout: 1000, cacheBytes: 2 ** 28, cacheTtl: 3600, shadowShare: 1,
};

/** @throws LongerError ERR_CONFIG naming the option */
export function checkRankServiceOptions(options: RankServiceOptions): void {
  for (const [name, value] of Object.entries(options) as [keyof RankServiceOptions, number][]) {
    const least = name === 'window' || name === 'cacheBytes' || name === 'shadowShare' ? 0 : name === 'timeout' || name === 'cacheTtl' ? Number.MIN_VALUE : 1;
    if (!(typeof value === 'number' && value >= least) || (name === 'shadowShare' && value > 1))
      throw new LongerError('ERR_CONFIG', `expected a number of at least ${least === Number.MIN_VALUE ? 'something above 0' : least}, got ${String(value)}`, { place: name });
  }
}
