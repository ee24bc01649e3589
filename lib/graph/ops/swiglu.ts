import { LongerError } from '../../errors.ts';
import { fixed } from '../dim.ts';
import { type Graph, type OpDefinition, rowsOf, rowWise, show, type Value, widthOf } from '../graph.ts';

const definition: OpDefinition = {
  name: 'swiglu',
  mixedInputs: 'all',
  mixedOutputs: 'all',
  tile: rowWise,
  gradient(node, [dy], { graph }) {
    const da = graph.like(node.inputs[0]!, 'da');
    graph.emit({ name: 'swiglu_dx', mixedInputs: 'all', mixedOutputs: 'all', tile: rowWise }, [node.inputs[0]!, dy!], [da]);
    return [da];
  },
};

/** silu(first half of the columns) * second half. */
export function swiglu(graph: Graph, a: Value): Value {
  if (widthOf(a) % 2 !== 0) throw new LongerError('ERR_GRAPH', `swiglu: the width must be even: ${show(a)}`);
  const y = graph.temporary('swiglu', 'f32', [rowsOf(a), fixed(widthOf(a) / 2)]);
  graph.emit(definition, [a], [y]);
  return y;
}
