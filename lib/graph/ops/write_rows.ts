import type { DTypeName } from '../../native/types.ts';
import type { Dim } from '../dim.ts';
import { type Graph, type OpDefinition, type Value, widthOf, fixed } from '../graph.ts';

const definition: OpDefinition = { name: 'write_rows', inPlace: true, mixedInputs: 'all', fullOutputs: 'all' };

const quantisedDefinition: OpDefinition = { name: 'write_quantised_rows', inPlace: true, mixedInputs: 'all', fullOutputs: 'all' };

/** Words (i32) of a row of this width in int8, with a scale for each head: docs/operations.md. */
export const quantisedWords = (width: number, heads: number): number => heads + width / 4;

/** writeRows in int8, into memory of words. */
export function writeQuantisedRows(graph: Graph, index: Value, x: Value, rows: Dim, heads: number): Value {
  const y = graph.temporary('written', 'i32', [rows, fixed(quantisedWords(widthOf(x), heads))]);
  graph.emit(quantisedDefinition, [index, x], [y], [heads]);
  return y;
}

/** Row index[i] of memory of the caller becomes row i of x; its other rows stay. The result is that memory, so written: make it an output. */
export function writeRows(graph: Graph, index: Value, x: Value, rows: Dim, dtype: DTypeName): Value {
  const y = graph.temporary('written', dtype, [rows, fixed(widthOf(x))]);
  graph.emit(definition, [index, x], [y]);
  return y;
}
