import { fixed, symbol, type Symbols } from '../graph/dim.ts';
import { Graph, type SparseUse, type Value, widthOf } from '../graph/graph.ts';
import { lower, type ParameterLayout, type Placement, tableStore } from '../graph/lower.ts';
import { activation } from '../graph/ops/activation.ts';
import { bce } from '../graph/ops/bce.ts';
import { accumulate, clipScale, type DenseOptimizer, denseUpdate, emaUpdate, type SparseOptimizer, sparseState, sparseUpdate, sumSquares, updateLossScale } from '../graph/ops/optimizers.ts';
import { type SparseGradient, sparseGrad } from '../graph/ops/sparse_grad.ts';
import { differentiate } from '../graph/passes/differentiate.ts';
import { fuse } from '../graph/passes/fuse.ts';
import { cpuTarget, fuseInnerTransformers, type Target } from '../graph/passes/inner_transformer.ts';
import { orderByDepth } from '../graph/passes/order.ts';
import { modeOf, type Precision, precision } from '../graph/passes/precision.ts';
import { prune } from '../graph/passes/prune.ts';
import { recompute, type RecomputePolicy } from '../graph/passes/recompute.ts';
import { defaultTiling, noTiling, tileTemporaries, type Tiling } from '../graph/passes/tile.ts';
import type { ModelDescription } from '../model/model.ts';
import type { State } from '../native/plan.ts';
import type { GraphSpec, StoreSpec } from '../native/types.ts';
import { type ParameterGroup, ParameterGroups, type RateClass } from './groups.ts';
import type { GradScalerOptions } from './options.ts';

export interface StepOptions {
  readonly dense: DenseOptimizer & { readonly fanInBase?: number };
  readonly sparse: SparseOptimizer;
  /** Parameters with rates of their own. */
  readonly groups: readonly ParameterGroup[];
  /** Largest global norm of the dense and of the sparse gradients; 0 for no clipping. */
  readonly clip: { readonly dense: number; readonly sparse: number };
  /** Decay of the moving average of dense parameters; 0 for none. */
  readonly ema: number;
  /** Micro-batches that a step may be made of. */
  readonly accumulate: number;
  readonly precision: Precision;
  /** Of precision fp16. */
  readonly gradScaler: GradScalerOptions;
  readonly recompute: RecomputePolicy;
  /** Needed for a memory budget: arena bytes of a lowered graph at the sizes given. */
  readonly measure?: (spec: GraphSpec) => number;
  readonly sizes?: Symbols;
  /** What the step is to run on; the CPU where it is left out. */
  readonly target?: Target;
  /** What runs tile by tile; the default suits a core's cache, and is nothing where the target is a device. */
  readonly tiling?: Tiling;
}

export interface TrainStep {
  readonly graph: Graph;
  readonly spec: GraphSpec;
  /** Stores beside the parameters': gradients, optimizer state, decay mask, average, loss scale. */
  readonly stores: readonly StoreSpec[];
  /** What `rateInputs` takes for this step. */
  readonly rates: readonly RateClass[];
}

/** f16 loses small gradients: the loss is multiplied by what this store holds, and the steps since that changed are counted in the other. */
export const lossScaleStore = 'loss_scale';
const goodStepsStore = 'loss_scale.good';
const scalesLoss = ({ precision }: Pick<StepOptions, 'precision'>): boolean => modeOf(precision) === 'fp16';
const lossScale = (graph: Graph): Value => graph.state(lossScaleStore, 'f32', [1], lossScaleStore);

/** Writes what the stores of a step hold at first, where that is not zeros. */
export function initialiseStep(state: State, layout: ParameterLayout, options: StepOptions): void {
  state.write('dense.decay', 0, decayMask(layout, options.groups));
  if (scalesLoss(options)) state.write(lossScaleStore, 0, Float32Array.of(options.gradScaler.initScale));
}

/** Persistent memory of an optimizer, beside the parameters themselves. */
export function stepStores(layout: ParameterLayout, options: Pick<StepOptions, 'sparse' | 'ema' | 'accumulate' | 'precision'>): StoreSpec[] {
  const n = layout.denseSize;
  const stores: StoreSpec[] = ['dense.grad', 'dense.first', 'dense.second', 'dense.decay'].map((name) => ({ name, dtype: 'f32', size: n }));
  if (options.accumulate > 1) stores.push({ name: 'dense.sum', dtype: 'f32', size: n });
  if (options.ema > 0) stores.push({ name: 'dense.average', dtype: 'f32', size: n });
  for (const [name, { shape }] of layout.tables)
    for (const s of sparseState(options.sparse)) stores.push({ name: `${tableStore(name)}.${s.suffix}`, dtype: s.dtype, size: shape[0]! * (s.width || shape[1]!) });
  if (scalesLoss(options)) stores.push({ name: lossScaleStore, dtype: 'f32', size: 1 }, { name: goodStepsStore, dtype: 'i32', size: 1 });
  return stores;
}

/** Stores that hold nothing from one step to the next, or nothing that options do not give: no part of a checkpoint. */
export const passingStores: readonly string[] = ['dense.grad', 'dense.sum', 'dense.decay'];

/** Contents of the store `dense.decay`: factors of the weight decay, 0 where none applies. */
function decayMask(layout: ParameterLayout, groups: readonly ParameterGroup[] = []): Float32Array {
  return new ParameterGroups(layout, groups).decay();
}

/** What changes from step to step. */
export interface StepRates {
  readonly dense: number;
  readonly weightDecay: number;
  readonly sparse: number;
  /** Number of this update, 1 for the first. */
  readonly update: number;
  /** Share of the old average that stays: see `averageDecay`. */
  readonly average: number;
}

/** The rates of every class of parameters, as the inputs that a step reads. */
export function rateInputs(classes: readonly RateClass[], rates: StepRates): Map<string, Float32Array> {
  return new Map(classes.map(({ learningRate: f, weightDecay }, i) => [
    hyperName(i), Float32Array.of(rates.dense * f, rates.weightDecay * weightDecay, rates.sparse * f, rates.update, rates.average, 0, 0, 0),
  ]));
}

const hyperName = (rates: number): string => (rates === 0 ? 'hyper' : `hyper.${rates}`);
const hyperInput = (graph: Graph, rates: number): Value => graph.input(hyperName(rates), 'f32', [fixed(8)]);

/** Decay of update 1, 2, ... that makes the moving average an average of the parameters seen so far, without a share of the start. */
export function averageDecay(decay: number, update: number): number {
  return (decay * (1 - decay ** (update - 1))) / (1 - decay ** update);
}

/** Forward, loss and backward pass; the gradients of dense parameters, times the loss scale, are placed in the store `dense.grad`. */
function gradients(model: ModelDescription, totals: boolean, options: StepOptions): {
  readonly graph: Graph;
  readonly logits: Value;
  readonly loss: Value;
  readonly placed: Map<Value, Placement>;
  readonly sparse: ReadonlyMap<Value, readonly SparseUse[]>;
} {
  const { layout, schema } = model;
  const { graph: parts, logits } = model.full();
  const graph = fuseInnerTransformers(parts, options.precision, options.target ?? cpuTarget);
  orderByDepth(graph);
  const tasks = schema.tasks.length;
  const labels = graph.input('labels', 'f32', [symbol('candidates'), fixed(tasks)]);
  const counts = totals ? graph.input('label.totals', 'f32', [fixed(tasks)]) : null;
  const { loss, perTask } = graph.scope('loss', () => bce(graph, logits, labels, { totals: counts }, schema.tasks.map((t) => t.weight)));
  const { dense, sparse } = differentiate(graph, loss, [], scalesLoss(options) ? lossScale(graph) : null);
  const placed = new Map<Value, Placement>();
  graph.inBackward(() => {
    for (const [parameter, gradient] of dense) {
      // Two parameters can share one gradient value (a sum passes it on); each has a place of its own.
      const g = placed.has(gradient) ? graph.scope(`grad.${parameter.name}`, () => activation(graph, gradient, 'none')) : gradient;
      placed.set(g, { store: 'dense.grad', offset: layout.place(parameter.name).offset });
    }
  });
  for (const [name, v] of [['loss', loss], ['per_task', perTask], ['logits', logits]] as const) graph.output(name, v);
  return { graph, logits, loss, placed, sparse };
}

/** The passes behind the gradient, and the form that runs. */
function finished(model: ModelDescription, { graph, logits, placed }: Pick<ReturnType<typeof gradients>, 'graph' | 'logits' | 'placed'>, options: StepOptions): TrainStep {
  const pinned = new Set(placed.keys());
  const scale = graph.outputs.get('loss_scale');
  const typed = precision(fuse(prune(graph, pinned), pinned), options.precision, [...pinned, logits, ...(scale ? [scale] : [])]);
  // A device works on all rows at once, so nothing of a tile would stay near and be computed again for it.
  const { measure, target = cpuTarget, tiling = target.backend === 'cpu' ? defaultTiling : noTiling } = options;
  const spec = (g: Graph): GraphSpec => lower(g, model.layout, placed, tiling);
  const whole = recompute(typed, options.recompute, {
    always: tileTemporaries(typed, tiling),
    sizes: options.sizes ?? {},
    measure: measure && ((g) => measure(spec(g))),
  });
  return { graph: whole, spec: spec(whole), stores: stepStores(model.layout, options), rates: classesOf(model.layout, options).classes };
}

/**
 * The whole training step as one graph: forward, loss, backward, clipping, updates of dense and sparse parameters.
 * Outputs: `loss` [1], `per_task` [tasks], `norm.dense` [1], `norm.sparse` [1], `logits` [candidates, tasks], in fp16 `loss_scale` [1]: that of this step.
 */
export function trainStep(model: ModelDescription, options: StepOptions): TrainStep {
  const made = gradients(model, false, options);
  const { graph } = made;
  graph.scope('update', () => graph.inBackward(() => {
    update(graph, model.layout, [...made.sparse.values()].map((uses) => sparseGrad(graph, uses)), 'dense.grad', [made.loss], options);
  }));
  return finished(model, made, options);
}

/** Tables whose gradients a step has, by name, with the symbol of their rows in `updateStep`. */
export interface TableGradient {
  readonly table: string;
  readonly width: number;
  readonly symbol: string;
}

/**
 * The gradients of one micro-batch: like `trainStep`, but the dense ones are added to the store `dense.sum` and the sparse
 * ones come out as `grad.<table>.rows` i32 [n], `grad.<table>.values` f32 [n, width] and `grad.<table>.count` i32 [1].
 * Further input: `label.totals` f32 [tasks], the labelled candidates of the whole step.
 */
export function gradientStep(model: ModelDescription, options: StepOptions): TrainStep & { readonly tables: readonly TableGradient[] } {
  const made = gradients(model, true, options);
  const { graph } = made;
  const tables: TableGradient[] = [];
  graph.scope('accumulate', () => graph.inBackward(() => {
    const n = model.layout.denseSize;
    accumulate(graph, graph.state('dense.grad', 'f32', [n], 'dense.grad'), graph.state('dense.sum', 'f32', [n], 'dense.sum'));
    for (const uses of made.sparse.values()) {
      const { table, rows, grad, count } = sparseGrad(graph, uses);
      for (const [name, v] of [['rows', rows], ['values', grad], ['count', count]] as const) graph.output(`grad.${table.name}.${name}`, v);
      tables.push({ table: table.name, width: widthOf(table), symbol: `grad.${table.name}` });
    }
  }));
  return { ...finished(model, made, options), tables };
}

/**
 * The update of a step made of micro-batches, from `dense.sum` and the sparse gradients of all of them end to end: inputs
 * `grad.<table>.rows` and `grad.<table>.values`. Outputs: `norm.dense`, `norm.sparse`, in fp16 `loss_scale`.
 */
export function updateStep(model: ModelDescription, tables: readonly TableGradient[], options: StepOptions): TrainStep {
  const graph = new Graph();
  graph.scope('update', () => graph.inBackward(() => {
    const joined = tables.map(({ table, width, symbol: rows }) => {
      const { shape, value } = model.layout.tables.get(table)!;
      const parameter = graph.parameter(table, shape, value.parameter!);
      const ids = graph.input(`grad.${table}.rows`, 'i32', [symbol(rows)]);
      const dy = graph.input(`grad.${table}.values`, 'f32', [symbol(rows), fixed(width)]);
      return sparseGrad(graph, [{ table: parameter, ids, offsets: null, dy, column: 0, pooling: 0 }]);
    });
    update(graph, model.layout, joined, 'dense.sum', [], options);
  }));
  return { graph, spec: lower(graph, model.layout), stores: stepStores(model.layout, options), rates: classesOf(model.layout, options).classes };
}

const classesOf = (layout: ParameterLayout, { groups, dense }: StepOptions): ParameterGroups => new ParameterGroups(layout, groups, dense.fanInBase);

/** Nothing is updated unless all gradients and what is in `guards` are finite. */
function update(graph: Graph, layout: ParameterLayout, sparse: readonly SparseGradient[], gradient: string, guards: readonly Value[], options: StepOptions): void {
  const groups = classesOf(layout, options);
  const flat = (store: string, offset = 0, size = layout.denseSize): Value => graph.state(store, 'f32', [size], store, offset);
  const denseSum = sumSquares(graph, flat(gradient));
  const sparseSums = sparse.map((g) => sumSquares(graph, g.grad, g.count));
  const others = guards.map((v) => sumSquares(graph, v));
  const scaling = scalesLoss(options) ? lossScale(graph) : null;
  if (scaling) graph.output('loss_scale', activation(graph, scaling, 'none')); // a copy, before it changes
  const denseClip = clipScale(graph, [denseSum], [...sparseSums, ...others], options.clip.dense, scaling);
  const sparseClip = sparse.length > 0 ? clipScale(graph, sparseSums, [denseSum, ...others], options.clip.sparse, scaling) : null;

  for (const { rates, offset, size } of groups.denseRuns()) {
    const part = (store: string): Value => flat(store, offset, size);
    const values = { grad: part(gradient), param: part('dense'), first: part('dense.first'), second: part('dense.second'), decay: part('dense.decay') };
    denseUpdate(graph, options.dense, values, hyperInput(graph, rates), denseClip.scale);
  }
  for (const g of sparse) {
    const name = tableStore(g.table.name);
    const [rows, width] = [g.table.dims[0]!.constant, widthOf(g.table)];
    const state = sparseState(options.sparse).map((s) =>
      graph.state(`${name}.${s.suffix}`, s.dtype, s.width === 1 ? [rows] : [rows, width], `${name}.${s.suffix}`),
    );
    sparseUpdate(graph, options.sparse, g, state, hyperInput(graph, groups.of(g.table.name)), sparseClip!.scale);
  }
  if (options.ema > 0) emaUpdate(graph, flat('dense'), flat('dense.average'), hyperInput(graph, 0), denseClip.scale);
  if (scaling) updateLossScale(graph, denseClip.scale, scaling, graph.state(goodStepsStore, 'i32', [1], goodStepsStore), options.gradScaler.growthInterval);
  graph.output('norm.dense', denseClip.norm);
  if (sparseClip) graph.output('norm.sparse', sparseClip.norm);
}
