import { fixed, symbol, type Symbols } from '../graph/dim.ts';
import { type Graph, type SparseUse, type Value, widthOf } from '../graph/graph.ts';
import { lower, type ParameterLayout, type Placement, tableStore } from '../graph/lower.ts';
import { activationCode } from '../graph/ops/activation.ts';
import { bce } from '../graph/ops/bce.ts';
import { clipScale, type DenseOptimizer, denseUpdate, emaUpdate, type SparseOptimizer, sparseState, sparseUpdate, sumSquares } from '../graph/ops/optimizers.ts';
import { sparseGrad } from '../graph/ops/sparse_grad.ts';
import { differentiate } from '../graph/passes/differentiate.ts';
import { fuse } from '../graph/passes/fuse.ts';
import { orderByDepth } from '../graph/passes/order.ts';
import { prune } from '../graph/passes/prune.ts';
import { recompute, type RecomputePolicy } from '../graph/passes/recompute.ts';
import { defaultTiling, tileTemporaries, type Tiling } from '../graph/passes/tile.ts';
import type { ModelDescription } from '../model/model.ts';
import type { GraphSpec, StoreSpec } from '../native/types.ts';

export interface StepOptions {
  readonly dense: DenseOptimizer;
  readonly sparse: SparseOptimizer;
  /** Largest global norm of the dense and of the sparse gradients; 0 for no clipping. */
  readonly clip: { readonly dense: number; readonly sparse: number };
  /** Decay of the moving average of dense parameters; 0 for none. */
  readonly ema: number;
  readonly recompute: RecomputePolicy;
  /** Needed for a memory budget: arena bytes of a lowered graph at the sizes given. */
  readonly measure?: (spec: GraphSpec) => number;
  readonly sizes?: Symbols;
  /** What runs tile by tile; the default suits a core's cache. */
  readonly tiling?: Tiling;
}

export interface TrainStep {
  readonly graph: Graph;
  readonly spec: GraphSpec;
  /** Stores beside the parameters': gradients, optimizer state, decay mask, average. */
  readonly stores: readonly StoreSpec[];
}

/** Persistent memory of an optimizer, beside the parameters themselves. */
export function stepStores(layout: ParameterLayout, options: Pick<StepOptions, 'sparse' | 'ema'>): StoreSpec[] {
  const n = layout.denseSize;
  const stores: StoreSpec[] = ['dense.grad', 'dense.first', 'dense.second', 'dense.decay'].map((name) => ({ name, dtype: 'f32', size: n }));
  if (options.ema > 0) stores.push({ name: 'dense.average', dtype: 'f32', size: n });
  for (const [name, { shape }] of layout.tables)
    for (const s of sparseState(options.sparse)) stores.push({ name: `${tableStore(name)}.${s.suffix}`, dtype: s.dtype, size: shape[0]! * (s.width || shape[1]!) });
  return stores;
}

/** 1 where weight decay applies, 0 elsewhere: the contents of the store `dense.decay`. */
export function decayMask(layout: ParameterLayout): Float32Array {
  const mask = new Float32Array(layout.denseSize);
  for (const { offset, shape, value } of layout.dense.values())
    if (value.parameter!.decay) mask.fill(1, offset, offset + shape.reduce((a, b) => a * b, 1));
  return mask;
}

/**
 * The whole training step as one graph: forward, loss, backward, clipping, updates of dense and sparse parameters.
 * Outputs: `loss` [1], `per_task` [tasks], `norm.dense` [1], `norm.sparse` [1], `logits` [candidates, tasks].
 */
export function trainStep(model: ModelDescription, options: StepOptions): TrainStep {
  const { layout, schema } = model;
  const { graph, logits } = model.full();
  orderByDepth(graph);
  const tasks = schema.tasks.length;
  const labels = graph.input('labels', 'f32', [symbol('candidates'), fixed(tasks)]);
  const { loss, perTask } = graph.scope('loss', () => bce(graph, logits, labels, null, schema.tasks.map((t) => t.weight)));
  const { dense, sparse } = differentiate(graph, loss);

  const placed = new Map<Value, Placement>();
  graph.inBackward(() => {
    for (const [parameter, gradient] of dense) {
      let g = gradient;
      if (placed.has(g) || g.dims.length !== parameter.dims.length) {
        // Two parameters can share one gradient value (a sum passes it on); each has a place of its own.
        g = graph.like(gradient, `grad.${parameter.name}`);
        graph.emit({ name: 'activation' }, [gradient], [g], [activationCode.none]);
      }
      placed.set(g, { store: 'dense.grad', offset: layout.place(parameter.name).offset });
    }
  });
  for (const [name, v] of [['loss', loss], ['per_task', perTask], ['logits', logits]] as const) graph.output(name, v);
  graph.scope('update', () => { update(graph, layout, sparse, options); });

  const pinned = new Set(placed.keys());
  let whole = fuse(prune(graph, pinned), pinned);
  const { measure, tiling = defaultTiling } = options;
  const spec = (g: Graph): GraphSpec => lower(g, layout, placed, tiling);
  whole = recompute(whole, options.recompute, {
    always: tileTemporaries(whole, tiling),
    sizes: options.sizes ?? {},
    measure: measure && ((g) => measure(spec(g))),
  });
  return { graph: whole, spec: spec(whole), stores: stepStores(layout, options) };
}

function update(graph: Graph, layout: ParameterLayout, sparse: ReadonlyMap<Value, readonly SparseUse[]>, options: StepOptions): void {
  const n = layout.denseSize;
  const flat = (name: string, store: string): Value => graph.state(name, 'f32', [n], store);
  const hyper = graph.input('hyper', 'f32', [fixed(8)]);
  graph.inBackward(() => {
    const grad = flat('dense.grad', 'dense.grad');
    const param = flat('dense.param', 'dense');
    const denseClip = clipScale(graph, [sumSquares(graph, grad)], options.clip.dense);
    const gradients = [...sparse.values()].map((uses) => sparseGrad(graph, uses));
    const sparseClip = gradients.length > 0 ? clipScale(graph, gradients.map((g) => sumSquares(graph, g.grad, g.count)), options.clip.sparse) : null;

    const first = flat('dense.first', 'dense.first');
    const second = flat('dense.second', 'dense.second');
    denseUpdate(graph, options.dense, { grad, param, first, second, decay: flat('dense.decay', 'dense.decay') }, hyper, denseClip.scale);
    for (const g of gradients) {
      const name = tableStore(g.table.name);
      const [rows, width] = [g.table.dims[0]!.constant, widthOf(g.table)];
      const state = sparseState(options.sparse).map((s) =>
        graph.state(`${name}.${s.suffix}`, s.dtype, s.width === 1 ? [rows] : [rows, width], `${name}.${s.suffix}`),
      );
      sparseUpdate(graph, options.sparse, g, state, hyper, sparseClip!.scale);
    }
    if (options.ema > 0) emaUpdate(graph, param, flat('dense.average', 'dense.average'), options.ema);
    graph.output('norm.dense', denseClip.norm);
    if (sparseClip) graph.output('norm.sparse', sparseClip.norm);
  });
}


