import { fixed, sizeOf } from '../dim.ts';
import { type Graph, type OpDefinition, rowsOf, type Value, widthOf } from '../graph.ts';

/**
 * Hybrid attention over the packed rows of each request (spec 4.1). Query row r sees the first `limits[r]` keys of its
 * request; model/visibility.ts says how many that are.
 */
const definition: OpDefinition = {
  name: 'attention',
  fullOutputs: [1],
  flops(node, sizes) {
    const [q, k, , qOffsets] = node.inputs;
    const requests = Math.max(1, sizeOf(rowsOf(qOffsets!), sizes) - 1);
    return (4 * sizeOf(rowsOf(q!), sizes) * sizeOf(rowsOf(k!), sizes) * widthOf(q!)) / requests;
  },
  gradient(node, [dy], { graph }) {
    const [q, k, v, qOffsets, kOffsets, limits] = node.inputs;
    const [o, lse] = node.outputs;
    const dq = graph.like(q!, 'dq');
    const dk = graph.like(k!, 'dk');
    const dv = graph.like(v!, 'dv');
    graph.emit(dxDefinition, [q!, k!, v!, o!, lse!, dy!, qOffsets!, kOffsets!, limits!], [dq, dk, dv], node.attrs);
    return [dq, dk, dv, null, null, null];
  },
};

const dxDefinition: OpDefinition = {
  name: 'attention_dx',
  fullInputs: [4],
  flops(node, sizes) {
    const [q, k, , , , , qOffsets] = node.inputs;
    const requests = Math.max(1, sizeOf(rowsOf(qOffsets!), sizes) - 1);
    return (8 * sizeOf(rowsOf(q!), sizes) * sizeOf(rowsOf(k!), sizes) * widthOf(q!)) / requests;
  },
};

export interface AttentionRows {
  readonly qOffsets: Value;
  readonly kOffsets: Value;
  readonly limits: Value;
}

export function attention(graph: Graph, q: Value, k: Value, v: Value, rows: AttentionRows, heads: number): Value {
  const o = graph.like(q, 'attention');
  const lse = graph.temporary('lse', 'f32', [rowsOf(q), fixed(heads)]);
  graph.emit(definition, [q, k, v, rows.qOffsets, rows.kOffsets, rows.limits], [o, lse], [heads, 1 / Math.sqrt(widthOf(q) / heads)]);
  return o;
}
