import type { DTypeName } from '../../native/types.ts';
import type { Dim } from '../dim.ts';
import { type Graph, type OpDefinition, type Value, widthOf, fixed } from '../graph.ts';

const definition: OpDefinition = { name: 'write_rows', inPlace: true, mixedInputs: 'all', fullOutputs: 'all' };

/** Row index[i] of memory of the caller becomes row i of x; its other rows stay. The result is that memory, so written: make it an output. */
export function writeRows(graph: Graph, index: Value, x: Value, rows: Dim, dtype: DTypeName): Value {
  const y = graph.temporary('written', dtype, [rows, fixed(widthOf(x))]);
  graph.emit(definition, [index, x], [y]);
  return y;
}
