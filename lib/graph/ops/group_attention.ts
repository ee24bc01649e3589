import { sizeOf } from '../dim.ts';
import { type Graph, type OpDefinition, rowsOf, type Value, widthOf } from '../graph.ts';

/** Bidirectional attention inside each newest-aligned group of K events: the InnerTransformer's (spec 3.2). */
const flops = (factor: number): NonNullable<OpDefinition['flops']> => (node, sizes) =>
  factor * sizeOf(rowsOf(node.inputs[0]!), sizes) * node.attrs[2]! * widthOf(node.inputs[0]!);

export const groupAttentionDefinition: OpDefinition = {
  name: 'group_attention',
  tile: { inputs: ['row', 'row', 'row', 'offsets'], outputs: ['row'], groupSize: 2 },
  flops: flops(4),
  gradient(node, [dy], { graph }) {
    const [q, k, v, offsets] = node.inputs;
    const grads = [graph.like(q!, 'dq'), graph.like(k!, 'dk'), graph.like(v!, 'dv')];
    graph.emit(dxDefinition, [q!, k!, v!, dy!, offsets!], grads, node.attrs);
    return [...grads, null];
  },
};

const dxDefinition: OpDefinition = {
  name: 'group_attention_dx',
  flops: flops(8),
  tile: { inputs: ['row', 'row', 'row', 'row', 'offsets'], outputs: ['row'], groupSize: 2 },
};

export function groupAttention(graph: Graph, q: Value, k: Value, v: Value, eventOffsets: Value, heads: number, groupSize: number): Value {
  const o = graph.like(q, 'group_attention');
  graph.emit(groupAttentionDefinition, [q, k, v, eventOffsets], [o], [heads, 1 / Math.sqrt(widthOf(q) / heads), groupSize]);
  return o;
}
