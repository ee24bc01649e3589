import { type Dim, fixed } from '../dim.ts';
import { type Graph, type OpDefinition, type Value } from '../graph.ts';

export type Pooling = 'none' | 'sum' | 'mean';
const poolingCode: Readonly<Record<Pooling, number>> = { none: 0, sum: 1, mean: 2 };

/** One embedding field: rows of `table` picked by `ids`, added into the columns that start at `column`. */
export interface EmbedField {
  readonly table: Value;
  readonly ids: Value;
  readonly offsets?: Value | null;
  readonly pooling?: Pooling;
  readonly column: number;
}

const definition: OpDefinition = {
  name: 'embed',
  fullInputs: 'all',
  mixedOutputs: 'all',
  // Ids of a multi-valued field stand where its offsets say: the tile cuts the offsets.
  tile: {
    inputs: (node) => Array.from({ length: node.attrs[0]! }, (_, f) => ['whole', node.inputs[3 * f + 2] ? 'whole' : 'row', 'row'] as const).flat(),
    outputs: ['row'],
  },
  gradient(node, [dy], context) {
    const fields = node.attrs[0]!;
    for (let f = 0; f < fields; ++f)
      context.sparse({
        table: node.inputs[3 * f]!,
        ids: node.inputs[3 * f + 1]!,
        offsets: node.inputs[3 * f + 2] ?? null,
        dy: dy!,
        column: node.attrs[1 + 2 * f]!,
        pooling: node.attrs[2 + 2 * f]!,
      });
    return node.inputs.map(() => null);
  },
};

/** A row of embeddings: several fields into one matrix [rows, width] in one pass. */
export function embed(graph: Graph, rows: Dim, width: number, fields: readonly EmbedField[]): Value {
  const y = graph.temporary('embed', 'f32', [rows, fixed(width)]);
  graph.emit(
    definition,
    fields.flatMap((f) => [f.table, f.ids, f.offsets ?? null]),
    [y],
    [fields.length, ...fields.flatMap((f) => [f.column, poolingCode[f.pooling ?? 'none']])],
  );
  return y;
}
