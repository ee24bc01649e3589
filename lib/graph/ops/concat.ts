import { fixed } from '../dim.ts';
import { expectRows, type Graph, type OpDefinition, rowsOf, rowWise, type Value, widthOf } from '../graph.ts';

const definition: OpDefinition = {
  name: 'concat',
  mixedInputs: 'all',
  mixedOutputs: 'all',
  tile: rowWise,
  gradient(node, [dy], { graph }) {
    const grads = node.inputs.map((x) => graph.like(x!, 'dpart'));
    graph.emit({ name: 'concat_dx', mixedInputs: 'all', mixedOutputs: 'all', tile: rowWise }, [dy!], grads);
    return grads;
  },
};

/** Columns side by side. */
export function concat(graph: Graph, ...parts: readonly Value[]): Value {
  const first = parts[0]!;
  if (parts.length === 1) return first;
  for (const p of parts) expectRows('concat', first, p);
  const y = graph.temporary('concat', 'f32', [rowsOf(first), fixed(parts.reduce((n, p) => n + widthOf(p), 0))]);
  graph.emit(definition, parts, [y]);
  return y;
}
