import { type Dim, fixed } from '../dim.ts';
import { type Graph, type OpDefinition, rowsOf, type Value, widthOf } from '../graph.ts';

/** Every (candidate, event) pair of a request: what DIN's activation unit reads and pools. */
export interface PairOffsets {
  readonly candidates: Value;
  readonly events: Value;
  readonly pairs: Value;
}

const featuresDefinition: OpDefinition = {
  name: 'pair_features',
  mixedInputs: 'all',
  mixedOutputs: 'all',
  gradient(node, [dy], { graph }) {
    const [c, e, ...offsets] = node.inputs;
    const grads = [graph.like(c!, 'dc'), graph.like(e!, 'de')];
    graph.emit({ name: 'pair_features_dx', mixedInputs: 'all', mixedOutputs: 'all' }, [c!, e!, dy!, ...offsets], grads);
    return [...grads, null, null, null];
  },
};

/** [c, e, c-e, c*e] of every pair, rows by request, candidate, event. */
export function pairFeatures(graph: Graph, c: Value, e: Value, offsets: PairOffsets, pairs: Dim): Value {
  const y = graph.temporary('pairs', 'f32', [pairs, fixed(4 * widthOf(c))]);
  graph.emit(featuresDefinition, [c, e, offsets.candidates, offsets.events, offsets.pairs], [y]);
  return y;
}

const poolDefinition: OpDefinition = {
  name: 'pair_pool',
  mixedInputs: 'all',
  mixedOutputs: 'all',
  gradient(node, [dy], { graph }) {
    const [w, e, ...offsets] = node.inputs;
    const grads = [graph.like(w!, 'dw'), graph.like(e!, 'de')];
    graph.emit({ name: 'pair_pool_dx', mixedInputs: 'all', mixedOutputs: 'all' }, [w!, e!, dy!, ...offsets], grads);
    return [...grads, null, null, null];
  },
};

/** Sum over the events of each candidate of weight * event. */
export function pairPool(graph: Graph, weights: Value, e: Value, candidates: Value, offsets: PairOffsets): Value {
  const y = graph.temporary('pooled', 'f32', [rowsOf(candidates), fixed(widthOf(e))]);
  graph.emit(poolDefinition, [weights, e, offsets.candidates, offsets.events, offsets.pairs], [y]);
  return y;
}
