import type { SparseOptimizer } from '../graph/ops/optimizers.ts';
import type { Precision } from '../graph/passes/precision.ts';
import { list, number, object, oneOf, orNull, text, textOr, variants, whole } from '../schema/shape.ts';
import type { ParameterGroup } from './groups.ts';
import type { Schedule, TrainOptions } from './options.ts';

/** What settings of a training run may be: the trainer's check and a config file's. The compiler holds the keys to the types of the options. */

const count = whole({ min: 1 });
const positive = number({ above: 0 });
const share = number({ min: 0, below: 1 });
const beta = share;
type Mixed = Exclude<Precision, string>;
type Dense<K> = TrainOptions['dense'] & { readonly kind: K };
type Sparse<K> = SparseOptimizer & { readonly kind: K } & { readonly learningRate: number };
const denseRates = { learningRate: positive, weightDecay: number({ min: 0 }), fanInBase: whole({ min: 0 }), eps: positive };
const schedule = object<Schedule>({ warmup: whole({ min: 0 }), kind: oneOf('constant', 'cosine'), floor: number({ min: 0, max: 1 }) });

const group = object<ParameterGroup>({ match: text(), learningRate: number({ min: 0 }), weightDecay: number({ min: 0 }) }, ['learningRate', 'weightDecay']);

export const trainShape = object<TrainOptions>({
  epochs: positive,
  batch: object<TrainOptions['batch']>({ maxEvents: count, maxRequests: count, maxCandidates: count }),
  dense: variants<TrainOptions['dense']>('kind', {
    adamw: object<Dense<'adamw'>>({ kind: oneOf('adamw'), ...denseRates, beta1: beta, beta2: beta }),
    rmsprop: object<Dense<'rmsprop'>>({ kind: oneOf('rmsprop'), ...denseRates, alpha: share, momentum: share }),
  }),
  sparse: variants<TrainOptions['sparse']>('kind', {
    'rowwise-adagrad': object<Sparse<'rowwise-adagrad'>>({ kind: oneOf('rowwise-adagrad'), learningRate: positive, eps: positive }),
    adagrad: object<Sparse<'adagrad'>>({ kind: oneOf('adagrad'), learningRate: positive, eps: positive }),
    adam: object<Sparse<'adam'>>({ kind: oneOf('adam'), learningRate: positive, eps: positive, beta1: beta, beta2: beta }),
  }),
  clip: object<TrainOptions['clip']>({ dense: number({ min: 0 }), sparse: number({ min: 0 }) }),
  groups: list(group),
  schedule,
  sparseSchedule: orNull(schedule),
  ema: share,
  accumulate: count,
  precision: textOr(oneOf('fp32', 'tf32', 'bf16', 'fp16'), object<Mixed>({ mode: oneOf('bf16', 'fp16'), full: list(text()) })),
  gradScaler: object<TrainOptions['gradScaler']>({ initScale: number({ min: 1, max: 2 ** 127 }), growthInterval: whole({ min: 1, max: 2 ** 31 - 1 }) }),
  recompute: textOr(oneOf('none', 'selective', 'block'), object<{ readonly budget: number }>({ budget: whole({ min: 1 }) })),
  seed: whole({ min: 0, max: 2 ** 31 - 1 }),
  shuffleWindow: count,
  onNonFinite: oneOf('stop', 'skip'),
});

/** @throws LongerError ERR_CONFIG that names the setting. */
export function checkTrainOptions(options: TrainOptions): void {
  trainShape.check(options, 'train', 'ERR_CONFIG');
}
