import { expectWidth, type Graph, type OpDefinition, rowsOf, type Value, widthOf } from '../graph.ts';

const definition: OpDefinition = {
  name: 'gather_rows',
  mixedInputs: 'all',
  mixedOutputs: 'all',
  tile: { inputs: ['row', 'whole'], outputs: ['row'] },
  gradient(node, [dy], { graph }) {
    const [index, ...sources] = node.inputs;
    const grads = sources.map((s) => graph.like(s!, 'dsource'));
    graph.emit({ name: 'gather_rows_dx', mixedInputs: 'all', mixedOutputs: 'all' }, [index!, dy!], grads);
    return [null, ...grads];
  },
};

/** Row i of the result is row index[i] of the sources laid end to end; -1 gives zeros. */
export function gatherRows(graph: Graph, index: Value, ...sources: readonly Value[]): Value {
  const width = widthOf(sources[0]!);
  for (const s of sources) expectWidth('gather_rows', s, width);
  const y = graph.temporary('rows', 'f32', [rowsOf(index), sources[0]!.dims.at(-1)!]);
  graph.emit(definition, [index, ...sources], [y]);
  return y;
}
