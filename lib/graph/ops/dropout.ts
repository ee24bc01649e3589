import { fixed } from '../dim.ts';
import { type Graph, type OpDefinition, type Value } from '../graph.ts';

export const dropoutDefinition: OpDefinition = {
  name: 'dropout',
  mixedInputs: 'all',
  mixedOutputs: 'all',
  tile: { inputs: ['row', 'whole'], outputs: ['row'] },
  gradient(node, [dy], { graph }) {
    const dx = graph.like(dy!, 'dx');
    graph.emit(dropoutDefinition, [dy!, node.inputs[1]!], [dx], node.attrs);
    return [dx, null];
  },
};

/** Counter-based dropout: the same seed, stream and position give the same bit. The seed is the input `dropout.seed`, i32[2]. */
export function dropout(graph: Graph, x: Value, p: number, stream: number): Value {
  if (p === 0) return x;
  const seed = graph.input('dropout.seed', 'i32', [fixed(2)]);
  const y = graph.like(x, 'dropout');
  graph.emit(dropoutDefinition, [x, seed], [y], [p, stream]);
  return y;
}
