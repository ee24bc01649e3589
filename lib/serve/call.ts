import { LongerError } from '../errors.ts';
import type { Explanation } from '../rank/explainer.ts';
import type { CachedHistory } from '../rank/holding.ts';
import type { EncodedRequest } from '../schema/encode.ts';
import type { WantedExplanations } from './explained.ts';
import type { RankResult } from './ranking.ts';
import type { ServedModel } from './served_model.ts';

/** A call that waits, runs or has just been settled. */
export interface Call {
  readonly model: ServedModel;
  readonly request: EncodedRequest;
  /** Whose caches no other shares. */
  readonly owner: string;
  readonly logits: Float32Array;
  /** No cache is made for it. */
  readonly plain: boolean;
  cache: CachedHistory | undefined;
  found: RankResult['cache'];
  readonly explain: WantedExplanations | undefined;
  explanations: readonly Explanation[] | undefined;
  /** Candidates that have been scored. */
  done: number;
  settled: boolean;
  /** In the batch that is running: its model and cache stay until that is done. */
  busy: boolean;
  readonly settle: (error?: unknown) => void;
  /** Lets go of its model. */
  readonly leave: () => void;
}

/** Lets go of its cache and its model. */
export function release(call: Call): void {
  call.cache?.release();
  call.leave();
}

export const closed = (): LongerError => new LongerError('ERR_DISPOSED', 'the service is closed');

export const late = (): LongerError => new LongerError('ERR_DEADLINE', 'the deadline passed before the scores were there', { remedy: 'Allow more time, or send fewer candidates' });

export const tooMany = (place: string, n: number, most: number): LongerError => new LongerError('ERR_DATA', `${n} are more than the ${most} that are allowed`, { place });
