import { type DTypeName } from '../../native/types.ts';
import { type Graph, type OpDefinition, type Value } from '../graph.ts';

export const castDefinition: OpDefinition = {
  name: 'cast',
  mixedInputs: 'all',
  mixedOutputs: 'all',
  gradient: (node, [dy], { graph }) => [cast(graph, dy!, node.inputs[0]!.dtype)],
};

/** The same numbers in another float type; into bf16 and f16 they are rounded to nearest even. */
export function cast(graph: Graph, x: Value, dtype: DTypeName): Value {
  if (x.dtype === dtype) return x;
  const y = graph.temporary(dtype, dtype, x.dims);
  graph.emit(castDefinition, [x], [y]);
  return y;
}
