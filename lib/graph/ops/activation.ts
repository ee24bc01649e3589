import { type Graph, type OpDefinition, rowWise, type Value } from '../graph.ts';

export type Activation = 'none' | 'gelu' | 'relu' | 'silu' | 'tanh' | 'sigmoid';

/** The codes of docs/operations.md; GELU is the exact one (erf). */
export const activationCode: Readonly<Record<Activation, number>> = { none: 0, gelu: 1, relu: 2, silu: 3, tanh: 4, sigmoid: 5 };

const definition: OpDefinition = {
  name: 'activation',
  mixedInputs: 'all',
  mixedOutputs: 'all',
  tile: rowWise,
  gradient: (node, [dy], { graph }) => [activationDx(graph, node.inputs[0]!, dy!, node.attrs[0]!)],
};

export const activationDxDefinition: OpDefinition = { name: 'activation_dx', mixedInputs: 'all', mixedOutputs: 'all', tile: rowWise };

export function activation(graph: Graph, x: Value, kind: Activation): Value {
  const y = graph.like(x, kind);
  graph.emit(definition, [x], [y], [activationCode[kind]]);
  return y;
}

export function activationDx(graph: Graph, pre: Value, dy: Value, code: number): Value {
  const dx = graph.like(pre, 'dpre');
  graph.emit(activationDxDefinition, [pre, dy], [dx], [code]);
  return dx;
}
