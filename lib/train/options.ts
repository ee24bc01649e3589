import type { DenseOptimizer, SparseOptimizer } from '../graph/ops/optimizers.ts';
import type { RecomputePolicy } from '../graph/passes/recompute.ts';
import { LongerError } from '../errors.ts';

/** Learning rate over the run: linear warm-up, then constant or a half cosine down to `floor` of the rate. */
export interface Schedule {
  readonly warmup: number;
  readonly kind: 'constant' | 'cosine';
  readonly floor: number;
}

export interface TrainOptions {
  readonly epochs: number;
  /** Bounds of a batch. */
  readonly batch: { readonly maxEvents: number; readonly maxRequests: number };
  readonly dense: DenseOptimizer & { readonly learningRate: number; readonly weightDecay: number };
  readonly sparse: SparseOptimizer & { readonly learningRate: number };
  readonly clip: { readonly dense: number; readonly sparse: number };
  readonly schedule: Schedule;
  readonly ema: number;
  readonly recompute: RecomputePolicy;
  readonly seed: number;
  /** Requests among which the order is shuffled. */
  readonly shuffleWindow: number;
  /** A step with a NaN or Inf stops the run, or is left out. Parameters are untouched either way. */
  readonly onNonFinite: 'stop' | 'skip';
}

export const trainDefaults: TrainOptions = {
  epochs: 1,
  batch: { maxEvents: 16_384, maxRequests: 64 },
  dense: { kind: 'adamw', learningRate: 1e-3, weightDecay: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8 },
  sparse: { kind: 'rowwise-adagrad', learningRate: 0.05, eps: 1e-8 },
  clip: { dense: 10, sparse: 10 },
  schedule: { warmup: 100, kind: 'cosine', floor: 0.05 },
  ema: 0,
  recompute: 'none',
  seed: 1,
  shuffleWindow: 4096,
  onNonFinite: 'stop',
};

/** Factor of the learning rates at step 1, 2, ... of `total` (0: unknown, then no decay). */
export function scheduleFactor(schedule: Schedule, step: number, total: number): number {
  const warm = schedule.warmup > 0 ? Math.min(1, step / schedule.warmup) : 1;
  if (schedule.kind === 'constant' || total <= schedule.warmup || step <= schedule.warmup) return warm;
  const progress = Math.min(1, (step - schedule.warmup) / (total - schedule.warmup));
  return warm * (schedule.floor + (1 - schedule.floor) * 0.5 * (1 + Math.cos(Math.PI * progress)));
}

/** @throws LongerError ERR_CONFIG that names the setting. */
export function checkTrainOptions(options: TrainOptions): void {
  const positive = (place: string, value: number, zero = false): void => {
    if (!(Number.isFinite(value) && (value > 0 || (zero && value === 0))))
      throw new LongerError('ERR_CONFIG', `expected a ${zero ? 'non-negative' : 'positive'} number, got ${value}`, { place: `train.${place}` });
  };
  positive('epochs', options.epochs);
  positive('batch.maxEvents', options.batch.maxEvents);
  positive('batch.maxRequests', options.batch.maxRequests);
  positive('dense.learningRate', options.dense.learningRate);
  positive('dense.weightDecay', options.dense.weightDecay, true);
  positive('sparse.learningRate', options.sparse.learningRate);
  positive('clip.dense', options.clip.dense, true);
  positive('clip.sparse', options.clip.sparse, true);
  positive('schedule.warmup', options.schedule.warmup, true);
  positive('shuffleWindow', options.shuffleWindow);
  if (!(options.ema >= 0 && options.ema < 1)) throw new LongerError('ERR_CONFIG', `expected a decay in [0, 1), got ${options.ema}`, { place: 'train.ema' });
}
