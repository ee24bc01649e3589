import type { BatchLimits } from '../data/batch_limits.ts';
import type { DenseOptimizer, SparseOptimizer } from '../graph/ops/optimizers.ts';
import type { Precision } from '../graph/passes/precision.ts';
import type { RecomputePolicy } from '../graph/passes/recompute.ts';
import type { ParameterGroup } from './groups.ts';

/** Learning rate over the run: linear warm-up, then constant or a half cosine down to `floor` of the rate. */
export interface Schedule {
  /** Steps. */
  readonly warmup: number;
  readonly kind: 'constant' | 'cosine';
  readonly floor: number;
}

export interface GradScalerOptions {
  readonly initScale: number;
  readonly growthInterval: number;
}

/** Settings of a training run; `trainDefaults` has every default, to be laid under what differs. */
export interface TrainOptions {
  /** Passes over the data, for `fit`; a part of one is done whole. */
  readonly epochs: number;
  /** When a batch is full. */
  readonly batch: BatchLimits;
  /** Optimizer of everything but embedding tables. */
  readonly dense: DenseOptimizer & {
    readonly learningRate: number;
    readonly weightDecay: number;
    /**
     * Weights of linear layers with more inputs than this get a learning rate smaller in proportion (muP, arXiv 2203.03466, table 8), so that one
     * rate suits every width; their decay stays. 0: all alike.
     */
    readonly fanInBase: number;
  };
  /** Optimizer of embedding tables: touches the rows that a batch used. */
  readonly sparse: SparseOptimizer & { readonly learningRate: number };
  /** Rates of parameters by name, scope or pattern; the first group that matches counts. */
  readonly groups: readonly ParameterGroup[];
  /** Largest global norm of the gradients; 0: not clipped. */
  readonly clip: { readonly dense: number; readonly sparse: number };
  /** Of the learning rates; its decay needs `trainer.totalSteps`. */
  readonly schedule: Schedule;
  /** Of the sparse learning rate; null: the same as the dense one's. */
  readonly sparseSchedule: Schedule | null;
  /** Decay of a moving average of the dense parameters, which then is what is evaluated and saved; 0 for none. */
  readonly ema: number;
  /** Batches of which one step is made: their gradients are summed, the loss is the mean over all their labels. */
  readonly accumulate: number;
  /** How activations are held; parameters, tables, optimizer state and the loss are fp32. */
  readonly precision: Precision;
  /**
   * Of precision fp16: the loss is multiplied by a scale so that small gradients are numbers of f16. A step whose gradients are too large for it is
   * left out on the device as a whole, and halves the scale (to no less than 1); `growthInterval` good steps in a row double it. As in
   * torch.amp.GradScaler.
   */
  readonly gradScaler: GradScalerOptions;
  readonly recompute: RecomputePolicy;
  /** Of first values, order and dropout. */
  readonly seed: number;
  /** Requests among which the order is shuffled. */
  readonly shuffleWindow: number;
  /**
   * A step with a NaN or Inf stops the run, or is left out. Parameters are untouched either way. In fp16 gradients that the scale makes too large
   * stop nothing, until it is 1.
   */
  readonly onNonFinite: 'stop' | 'skip';
}

export const trainDefaults: TrainOptions = {
  epochs: 1,
  batch: { maxEvents: 16_384, maxRequests: 64, maxCandidates: 4096 },
  dense: { kind: 'adamw', learningRate: 1e-3, weightDecay: 0.01, fanInBase: 64, beta1: 0.9, beta2: 0.999, eps: 1e-8 },
  sparse: { kind: 'rowwise-adagrad', learningRate: 0.05, eps: 1e-8 },
  groups: [],
  clip: { dense: 10, sparse: 10 },
  schedule: { warmup: 100, kind: 'cosine', floor: 0.05 },
  sparseSchedule: null,
  ema: 0,
  accumulate: 1,
  precision: 'fp32',
  gradScaler: { initScale: 65_536, growthInterval: 2000 },
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
