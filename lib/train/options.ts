import type { DenseOptimizer, SparseOptimizer } from '../graph/ops/optimizers.ts';
import type { Precision } from '../graph/passes/precision.ts';
import type { RecomputePolicy } from '../graph/passes/recompute.ts';
import { LongerError } from '../errors.ts';
import type { ParameterGroup } from './groups.ts';

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
  readonly dense: DenseOptimizer & {
    readonly learningRate: number;
    readonly weightDecay: number;
    /**
     * Weights of linear layers with more inputs than this get a learning rate smaller in proportion (muP, arXiv 2203.03466, table 8), so that one
     * rate suits every width; their decay stays. 0: all alike.
     */
    readonly fanInBase: number;
  };
  readonly sparse: SparseOptimizer & { readonly learningRate: number };
  /** Rates of parameters by name, scope or pattern; the first group that matches counts. */
  readonly groups: readonly ParameterGroup[];
  readonly clip: { readonly dense: number; readonly sparse: number };
  readonly schedule: Schedule;
  /** Of the sparse learning rate; null: the same as the dense one's. */
  readonly sparseSchedule: Schedule | null;
  /** Decay of a moving average of the dense parameters, which then is what is evaluated and saved; 0 for none. */
  readonly ema: number;
  /** Batches of which one step is made: their gradients are summed, the loss is the mean over all their labels. */
  readonly accumulate: number;
  /** How activations are held; parameters, tables, optimizer state and the loss are fp32. */
  readonly precision: Precision;
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
  dense: { kind: 'adamw', learningRate: 1e-3, weightDecay: 0.01, fanInBase: 64, beta1: 0.9, beta2: 0.999, eps: 1e-8 },
  sparse: { kind: 'rowwise-adagrad', learningRate: 0.05, eps: 1e-8 },
  groups: [],
  clip: { dense: 10, sparse: 10 },
  schedule: { warmup: 100, kind: 'cosine', floor: 0.05 },
  sparseSchedule: null,
  ema: 0,
  accumulate: 1,
  precision: 'fp32',
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
  positive('dense.fanInBase', options.dense.fanInBase, true);
  positive('sparse.learningRate', options.sparse.learningRate);
  positive('clip.dense', options.clip.dense, true);
  positive('clip.sparse', options.clip.sparse, true);
  for (const name of ['schedule', 'sparseSchedule'] as const) {
    const schedule = options[name];
    if (schedule === null && name === 'sparseSchedule') continue;
    positive(`${name}.warmup`, schedule?.warmup ?? NaN, true);
    if (!['constant', 'cosine'].includes(schedule!.kind)) throw new LongerError('ERR_CONFIG', `expected "constant" or "cosine", got ${JSON.stringify(schedule!.kind)}`, { place: `train.${name}.kind` });
    if (!(schedule!.floor >= 0 && schedule!.floor <= 1)) throw new LongerError('ERR_CONFIG', `expected a share in [0, 1], got ${schedule!.floor}`, { place: `train.${name}.floor` });
  }
  if (!Number.isSafeInteger(options.accumulate) || options.accumulate < 1)
    throw new LongerError('ERR_CONFIG', `expected a whole number of at least 1, got ${options.accumulate}`, { place: 'train.accumulate' });
  positive('shuffleWindow', options.shuffleWindow);
  if (!(options.ema >= 0 && options.ema < 1)) throw new LongerError('ERR_CONFIG', `expected a decay in [0, 1), got ${options.ema}`, { place: 'train.ema' });
}
