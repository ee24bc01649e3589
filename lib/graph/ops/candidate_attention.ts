import { fixed, sizeOf } from '../dim.ts';
import { type Graph, type OpDefinition, rowsOf, type Value, widthOf } from '../graph.ts';

/** The rows of a candidate see every key of their request and the rows of their own candidate up to themselves, never another candidate. */
const flops = (factor: number, offsets: number): NonNullable<OpDefinition['flops']> => (node, sizes) => {
  const q = node.inputs[0]!;
  const keys = node.inputs[3]!;
  const requests = Math.max(1, sizeOf(rowsOf(node.inputs[offsets]!), sizes) - 1);
  const m = node.attrs[2]!;
  return factor * sizeOf(rowsOf(q), sizes) * (sizeOf(rowsOf(keys), sizes) / requests + m) * widthOf(q);
};

const definition: OpDefinition = {
  name: 'candidate_attention',
  fullOutputs: [1],
  flops: flops(4, 5),
  gradient(node, [dy], { graph }) {
    const [q, ownK, ownV, k, v, candidateOffsets, kOffsets] = node.inputs;
    const [o, lse] = node.outputs;
    const grads = [graph.like(q!, 'dq'), graph.like(ownK!, 'down_k'), graph.like(ownV!, 'down_v'), graph.like(k!, 'dk'), graph.like(v!, 'dv')];
    graph.emit(dxDefinition, [q!, ownK!, ownV!, k!, v!, o!, lse!, dy!, candidateOffsets!, kOffsets!], grads, node.attrs);
    return [...grads, null, null];
  },
};

const dxDefinition: OpDefinition = { name: 'candidate_attention_dx', fullInputs: [6], flops: flops(8, 8) };

export interface CandidateKeys {
  readonly k: Value;
  readonly v: Value;
  readonly candidateOffsets: Value;
  readonly kOffsets: Value;
}

export function candidateAttention(graph: Graph, q: Value, ownK: Value, ownV: Value, keys: CandidateKeys, heads: number, m: number): Value {
  const o = graph.like(q, 'attention');
  const lse = graph.temporary('lse', 'f32', [rowsOf(q), fixed(heads)]);
  graph.emit(
    definition,
    [q, ownK, ownV, keys.k, keys.v, keys.candidateOffsets, keys.kOffsets],
    [o, lse],
    [heads, 1 / Math.sqrt(widthOf(q) / heads), m],
  );
  return o;
}
