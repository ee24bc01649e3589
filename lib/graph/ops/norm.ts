import { fixed } from '../dim.ts';
import { expectWidth, type Graph, type OpDefinition, rowsOf, type Value, widthOf } from '../graph.ts';

export type NormKind = 'layer' | 'rms';

export const normDefinition: OpDefinition = {
  name: 'norm',
  tile: { inputs: ['row', 'whole'], outputs: ['row'] },
  optionalOutputs: [1, 2],
  fullOutputs: [1, 2],
  fullInputs: [1, 2],
  mixedInputs: [0],
  mixedOutputs: [0],
  gradient(node, [dy], { graph }) {
    const [x, gamma, beta] = node.inputs;
    const [, mean, rstd] = node.outputs;
    const dx = graph.like(x!, 'dx');
    const dgamma = graph.temporary('dgamma', 'f32', [fixed(widthOf(gamma!))]);
    const dbeta = beta ? graph.temporary('dbeta', 'f32', [fixed(widthOf(beta))]) : null;
    graph.emit(normDxDefinition, [x!, gamma!, mean ?? null, rstd!, dy!, null], [dx, dgamma, dbeta], [node.attrs[0]!]);
    return [dx, dgamma, dbeta];
  },
};

export const normDxDefinition: OpDefinition = {
  name: 'norm_dx',
  fullOutputs: [1, 2],
  fullInputs: [1, 2, 3],
  mixedInputs: [0, 4, 5],
  mixedOutputs: [0],
  optionalOutputs: [2],
  tile: { inputs: ['row', 'whole', 'row'], outputs: ['row', 'sum'] },
};

/** LayerNorm (gain and bias) or RMSNorm (gain) over the last dim. */
export function norm(graph: Graph, x: Value, gamma: Value, beta: Value | null, kind: NormKind, eps = 1e-5): Value {
  expectWidth('norm', gamma, widthOf(x));
  const y = graph.like(x, 'norm');
  const mean = kind === 'layer' ? graph.temporary('mean', 'f32', [rowsOf(x)]) : null;
  const rstd = graph.temporary('rstd', 'f32', [rowsOf(x)]);
  graph.emit(normDefinition, [x, gamma, beta], [y, mean, rstd], [kind === 'layer' ? 0 : 1, eps]);
  return y;
}
