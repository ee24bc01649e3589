import { fixed, sizeOf } from '../dim.ts';
import { type Graph, type OpDefinition, rowsOf, type Value, widthOf } from '../graph.ts';
import type { AttentionRows } from './attention.ts';

/** What the rows of attention.ts see of their keys, the mean over heads: what an explanation reads. Inference only. */
const definition: OpDefinition = {
  name: 'attention_probabilities',
  fullOutputs: 'all',
  flops({ inputs: [q, k, qOffsets] }, sizes) {
    const requests = Math.max(1, sizeOf(rowsOf(qOffsets!), sizes) - 1);
    return (2 * sizeOf(rowsOf(q!), sizes) * sizeOf(rowsOf(k!), sizes) * widthOf(q!)) / requests;
  },
};

/** @param most keys that a row may have at most @returns f32 [rows of q, most], zero behind the keys that a row sees */
export function attentionProbabilities(graph: Graph, q: Value, k: Value, rows: AttentionRows, heads: number, most: number): Value {
  const p = graph.temporary('probabilities', 'f32', [rowsOf(q), fixed(most)]);
  graph.emit(definition, [q, k, rows.qOffsets, rows.kOffsets, rows.limits], [p], [heads, 1 / Math.sqrt(widthOf(q) / heads)]);
  return p;
}

/** The same of candidate_attention.ts. */
const candidateDefinition: OpDefinition = {
  name: 'candidate_attention_probabilities',
  fullOutputs: 'all',
  flops({ inputs: [q, , k, candidateOffsets], attrs }, sizes) {
    const requests = Math.max(1, sizeOf(rowsOf(candidateOffsets!), sizes) - 1);
    return 2 * sizeOf(rowsOf(q!), sizes) * (sizeOf(rowsOf(k!), sizes) / requests + attrs[2]!) * widthOf(q!);
  },
};

/** @returns f32 [rows of q, most]: the shared keys, behind them the row's own, zeros */
export function candidateAttentionProbabilities(
  graph: Graph, q: Value, ownK: Value, keys: { readonly k: Value; readonly candidateOffsets: Value; readonly kOffsets: Value }, heads: number, m: number, most: number,
): Value {
  const p = graph.temporary('probabilities', 'f32', [rowsOf(q), fixed(most)]);
  graph.emit(candidateDefinition, [q, ownK, keys.k, keys.candidateOffsets, keys.kOffsets], [p], [heads, 1 / Math.sqrt(widthOf(q) / heads), m]);
  return p;
}
