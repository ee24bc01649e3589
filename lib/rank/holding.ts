import type { Reuse } from '../model/append.ts';
import type { EncodedCandidates } from '../schema/encode.ts';
import type { HeldItem } from './paged_cache.ts';

/** A request's cache, held: its pages stay until it is released. */
export interface CachedHistory extends Disposable {
  /** What was there of it: all, the cache of a shorter history, or nothing. */
  readonly outcome: 'hit' | 'partial' | 'miss';
  /** What was computed, and what taken over; of a hit, nothing was computed. */
  readonly reuse: Reuse;
  /** Those that the request brought. */
  readonly candidates: EncodedCandidates;
  release(): void;
}

export class Holding implements CachedHistory {
  readonly outcome: CachedHistory['outcome'];
  readonly reuse: Reuse;
  readonly candidates: EncodedCandidates;
  readonly held: HeldItem;

  constructor(outcome: CachedHistory['outcome'], reuse: Reuse, candidates: EncodedCandidates, held: HeldItem) {
    this.outcome = outcome;
    this.reuse = reuse;
    this.candidates = candidates;
    this.held = held;
  }

  release(): void {
    this.held.release();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}
