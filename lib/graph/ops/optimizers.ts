import { fixed } from '../dim.ts';
import { type Graph, type OpDefinition, type Value } from '../graph.ts';
import type { SparseGradient } from './sparse_grad.ts';

/** The update half of a step. All of these write persistent memory in place; a scale that is NaN leaves it untouched. */
const inPlace = (name: string): OpDefinition => ({ name, inPlace: true, fullInputs: 'all', fullOutputs: 'all' });

export type DenseOptimizer =
  | { readonly kind: 'adamw'; readonly beta1: number; readonly beta2: number; readonly eps: number }
  | { readonly kind: 'rmsprop'; readonly alpha: number; readonly eps: number; readonly momentum: number };

export type SparseOptimizer =
  | { readonly kind: 'rowwise-adagrad'; readonly eps: number }
  | { readonly kind: 'adagrad'; readonly eps: number }
  | { readonly kind: 'adam'; readonly beta1: number; readonly beta2: number; readonly eps: number };

/** Sum of squares of a value, or of its first `count` rows: f64 [1]. */
export function sumSquares(graph: Graph, x: Value, count: Value | null = null): Value {
  const y = graph.temporary('sum_squares', 'f64', [fixed(1)]);
  graph.emit({ name: 'sum_squares', fullInputs: 'all', fullOutputs: 'all' }, [x, count], [y]);
  return y;
}

/**
 * Factor that brings the joint norm of the sums to at most `maxNorm` (0: no clipping), and that norm. The factor is NaN
 * unless the norm and every sum of `guards` is finite, so that optimizers that share their guards update together or not at all.
 * @param lossScale f32 [1], what the loss was multiplied by: the norm is that of the gradients without it, the factor takes it out
 */
export function clipScale(graph: Graph, sums: readonly Value[], guards: readonly Value[], maxNorm: number, lossScale: Value | null = null): { scale: Value; norm: Value } {
  const scale = graph.temporary('clip', 'f32', [fixed(1)]);
  const norm = graph.temporary('norm', 'f32', [fixed(1)]);
  graph.emit({ name: 'clip_scale', fullInputs: 'all', fullOutputs: 'all' }, [...sums, ...guards, ...(lossScale ? [lossScale] : [])], [scale, norm], [maxNorm, sums.length, lossScale ? 1 : 0]);
  return { scale, norm };
}

/**
 * After the updates by `scale` of `clipScale`: halves the loss scale (to no less than 1) where it is not finite, doubles it after
 * `interval` good steps in a row, which `good`, i32 [1], counts.
 */
export function updateLossScale(graph: Graph, scale: Value, lossScale: Value, good: Value, interval: number): void {
  graph.emit(inPlace('update_loss_scale'), [scale], [lossScale, good], [interval]);
}

/** One pass over the flat buffer of all dense parameters. `decay` is 1 where weight decay applies. */
export function denseUpdate(
  graph: Graph,
  optimizer: DenseOptimizer,
  flat: { readonly grad: Value; readonly param: Value; readonly first: Value; readonly second: Value; readonly decay: Value },
  hyper: Value,
  scale: Value,
): void {
  const attrs = optimizer.kind === 'adamw' ? [optimizer.beta1, optimizer.beta2, optimizer.eps] : [optimizer.alpha, optimizer.eps, optimizer.momentum];
  graph.emit(inPlace(optimizer.kind), [flat.grad, hyper, scale, flat.decay], [flat.param, flat.first, flat.second], attrs);
}

/** State stores of a sparse optimizer: name suffix, width a row (0: the table's own), dtype. */
export function sparseState(optimizer: SparseOptimizer): { suffix: string; width: number; dtype: 'f32' | 'i32' }[] {
  if (optimizer.kind === 'rowwise-adagrad') return [{ suffix: 'sum', width: 1, dtype: 'f32' }];
  if (optimizer.kind === 'adagrad') return [{ suffix: 'sum', width: 0, dtype: 'f32' }];
  return [
    { suffix: 'm', width: 0, dtype: 'f32' },
    { suffix: 'v', width: 0, dtype: 'f32' },
    { suffix: 'steps', width: 1, dtype: 'i32' },
  ];
}

export function sparseUpdate(graph: Graph, optimizer: SparseOptimizer, gradient: SparseGradient, state: readonly Value[], hyper: Value, scale: Value): void {
  const name = optimizer.kind === 'rowwise-adagrad' ? 'rowwise_adagrad' : `sparse_${optimizer.kind}`;
  const attrs = optimizer.kind === 'adam' ? [optimizer.beta1, optimizer.beta2, optimizer.eps] : [optimizer.eps];
  graph.emit(inPlace(name), [gradient.rows, gradient.grad, gradient.count, hyper, scale], [gradient.table, ...state], attrs);
}

/** average = decay * average + (1 - decay) * param, with the decay of hyper[4]. */
export function emaUpdate(graph: Graph, param: Value, average: Value, hyper: Value, scale: Value): void {
  graph.emit(inPlace('ema'), [param, hyper, scale], [average]);
}

/** sum += x. */
export function accumulate(graph: Graph, x: Value, sum: Value): void {
  graph.emit(inPlace('accumulate'), [x], [sum]);
}
