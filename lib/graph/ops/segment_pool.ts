import { plus, fixed } from '../dim.ts';
import { type Graph, type OpDefinition, rowsOf, type Value } from '../graph.ts';

const definition: OpDefinition = {
  name: 'segment_pool',
  mixedInputs: 'all',
  mixedOutputs: 'all',
  gradient(node, [dy], { graph }) {
    const [x, offsets] = node.inputs;
    const dx = graph.like(x!, 'dx');
    graph.emit({ name: 'segment_pool_dx', mixedInputs: 'all', mixedOutputs: 'all' }, [dy!, offsets!], [dx], node.attrs);
    return [dx, null];
  },
};

/** Sum or mean of the rows of each segment; an empty one gives zeros. */
export function segmentPool(graph: Graph, x: Value, offsets: Value, mode: 'sum' | 'mean'): Value {
  const y = graph.temporary('pooled', 'f32', [plus(rowsOf(offsets), fixed(-1)), x.dims.at(-1)!]);
  graph.emit(definition, [x, offsets], [y], [mode === 'sum' ? 0 : 1]);
  return y;
}
