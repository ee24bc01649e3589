import { fixed, plus } from '../dim.ts';
import { type Graph, type OpDefinition, rowsOf, type SparseUse, type Value, widthOf } from '../graph.ts';

const definition: OpDefinition = { name: 'sparse_grad', mixedInputs: 'all', fullOutputs: 'all' };

/** Unique rows of a table with their summed gradients; only the first `count` entries are written. */
export interface SparseGradient {
  readonly table: Value;
  readonly rows: Value;
  readonly grad: Value;
  readonly count: Value;
}

/** Joins all uses of one table (spec 5: gradients of duplicated ids are summed before the update). */
export function sparseGrad(graph: Graph, uses: readonly SparseUse[]): SparseGradient {
  const table = uses[0]!.table;
  const total = uses.map((u) => rowsOf(u.ids)).reduce(plus);
  const rows = graph.temporary(`${table.name}.rows`, 'i32', [total]);
  const grad = graph.temporary(`${table.name}.grad`, 'f32', [total, fixed(widthOf(table))]);
  const count = graph.temporary(`${table.name}.count`, 'i32', [fixed(1)]);
  graph.emit(
    definition,
    uses.flatMap((u) => [u.ids, u.offsets, u.dy]),
    [rows, grad, count],
    [uses.length, ...uses.flatMap((u) => [u.column, u.pooling])],
  );
  return { table, rows, grad, count };
}
