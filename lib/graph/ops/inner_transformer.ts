import { sizeOf } from '../dim.ts';
import { type OpDefinition, rowsOf, type Value, widthOf } from '../graph.ts';

/** What a block reads beside x and the offsets of events, in this order; the shifts are absent for RMS norm. */
export interface BlockParameters {
  readonly gain1: Value;
  readonly shift1: Value | null;
  readonly query: readonly [weight: Value, bias: Value];
  readonly key: readonly [weight: Value, bias: Value];
  readonly value: readonly [weight: Value, bias: Value];
  readonly out: readonly [weight: Value, bias: Value];
  readonly gain2: Value;
  readonly shift2: Value | null;
  readonly up: readonly [weight: Value, bias: Value];
  readonly down: readonly [weight: Value, bias: Value];
}

export interface BlockOptions {
  readonly heads: number;
  readonly scale: number;
  readonly groupSize: number;
  /** As norm's attributes have it: 0 layer, 1 rms. */
  readonly norm: number;
  readonly eps: number;
  /** Adds x to the result once more. */
  readonly outer: boolean;
}

// 24 d^2 and 4 K d a row (spec 4.2); the gradient's own work is twice that, what it computes again does not count.
const flops = (factor: number): NonNullable<OpDefinition['flops']> => (node, sizes) => {
  const d = widthOf(node.inputs[0]!);
  return factor * sizeOf(rowsOf(node.inputs[0]!), sizes) * (24 * d * d + 4 * node.attrs[2]! * d);
};

const parameterInputs = (from: number): number[] => Array.from({ length: 16 }, (_, i) => from + i);

/** A pre-norm block whose attention stays within groups of events, as one operation: the InnerTransformer's. On a device only. */
export const innerTransformerDefinition: OpDefinition = {
  name: 'inner_transformer',
  fullInputs: parameterInputs(2), // the master weights; the kernel rounds them to the type of x
  flops: flops(1),
  gradient(node, [dy], { graph }) {
    const [x, offsets, ...parameters] = node.inputs;
    const dx = graph.like(x!, 'dx');
    const gradients = parameters.map((p) => p && graph.temporary(`d${p.name.split('.').slice(-2).join('_')}`, 'f32', p.dims));
    graph.emit(dxDefinition, [x!, dy!, offsets!, ...parameters], [dx, ...gradients], node.attrs);
    return [dx, null, ...gradients];
  },
};

const dxDefinition: OpDefinition = {
  name: 'inner_transformer_dx',
  fullInputs: parameterInputs(3),
  fullOutputs: parameterInputs(1),
  flops: flops(2),
};

/** The operands and attributes of a node. */
export function innerTransformerOperands(x: Value, eventOffsets: Value, p: BlockParameters, o: BlockOptions): { readonly inputs: (Value | null)[]; readonly attrs: number[] } {
  return {
    inputs: [x, eventOffsets, p.gain1, p.shift1, ...p.query, ...p.key, ...p.value, ...p.out, p.gain2, p.shift2, ...p.up, ...p.down],
    attrs: [o.heads, o.scale, o.groupSize, o.norm, o.eps, o.outer ? 1 : 0],
  };
}
