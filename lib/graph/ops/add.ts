import { type Graph, type OpDefinition, rowWise, type Value } from '../graph.ts';

export const addDefinition: OpDefinition = {
  name: 'add',
  mixedInputs: 'all',
  mixedOutputs: 'all',
  tile: rowWise,
  gradient: (node, [dy]) => node.inputs.map(() => dy!),
};

/** Sum of values of one shape, left to right. */
export function add(graph: Graph, ...terms: readonly Value[]): Value {
  const first = terms[0]!;
  if (terms.length === 1) return first;
  const y = graph.like(first, 'sum');
  graph.emit(addDefinition, terms.slice(0, 8), [y]);
  return terms.length > 8 ? add(graph, y, ...terms.slice(8)) : y;
}
