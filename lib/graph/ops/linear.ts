import { constantOf, fixed, sizeOf } from '../dim.ts';
import { expectRows, expectWidth, type GradientContext, type Graph, type Node, type OpDefinition, rowsOf, type Value, widthOf } from '../graph.ts';
import { activationDx, activationCode, type Activation } from './activation.ts';

/** x[T,i] w[i,o] + b, activation, + residual. The pre-activation is kept for the gradient where there is an activation. */
export interface LinearOptions {
  readonly bias?: Value | null;
  readonly activation?: Activation;
  readonly residual?: Value | null;
}

const matmulFlops = (rows: Value, w: Value) => (sizes: Parameters<NonNullable<OpDefinition['flops']>>[1]): number =>
  2 * sizeOf(rowsOf(rows), sizes) * constantOf(w.dims[0]!) * constantOf(w.dims[1]!);

export const linearDefinition: OpDefinition = {
  name: 'linear',
  tile: { inputs: ['row', 'whole', 'whole', 'row'], outputs: ['row'] },
  optionalOutputs: [1],
  fullInputs: [1, 2], // the master weights; kernels round them to the type of x
  mixedInputs: [3],
  mixedOutputs: 'all',
  flops: (node, sizes) => matmulFlops(node.inputs[0]!, node.inputs[1]!)(sizes),
  gradient(node: Node, [dy]: readonly (Value | null)[], context: GradientContext) {
    const [x, w, b, residual] = node.inputs;
    const pre = node.outputs[1];
    const dPre = pre ? activationDx(context.graph, pre, dy!, node.attrs[0]!) : dy!;
    const dx = context.wants(x!) ? linearDx(context.graph, dPre, w!) : null;
    const [dw, db] = linearDw(context.graph, x!, dPre, w!, b ?? null);
    return [dx, dw, db, residual ? dy! : null];
  },
};

export function linear(graph: Graph, x: Value, w: Value, options: LinearOptions = {}): Value {
  const { bias = null, activation = 'none', residual = null } = options;
  expectWidth('linear', x, constantOf(w.dims[0]!));
  const dims = [rowsOf(x), w.dims[1]!];
  if (residual) {
    expectRows('linear residual', x, residual);
    expectWidth('linear residual', residual, constantOf(w.dims[1]!));
  }
  const y = graph.temporary('linear', 'f32', dims);
  const pre = activation === 'none' ? null : graph.temporary('pre', 'f32', dims);
  graph.emit(linearDefinition, [x, w, bias, residual], [y, pre], [activationCode[activation]]);
  return y;
}

export const linearDxDefinition: OpDefinition = {
  name: 'linear_dx',
  fullInputs: [1],
  mixedInputs: [2, 3],
  mixedOutputs: 'all',
  tile: { inputs: ['row', 'whole', 'row'], outputs: ['row'] },
  flops: (node, sizes) => matmulFlops(node.inputs[0]!, node.inputs[1]!)(sizes),
};

function linearDx(graph: Graph, dy: Value, w: Value): Value {
  const dx = graph.temporary('dx', 'f32', [rowsOf(dy), w.dims[0]!]);
  graph.emit(linearDxDefinition, [dy, w, null, null], [dx], [0]);
  return dx;
}

const linearDwDefinition: OpDefinition = {
  name: 'linear_dw',
  tile: { inputs: ['row'], outputs: ['sum'] },
  optionalOutputs: [1],
  fullOutputs: 'all',
  flops: (node, sizes) => 2 * sizeOf(rowsOf(node.inputs[0]!), sizes) * widthOf(node.inputs[0]!) * widthOf(node.inputs[1]!),
};

function linearDw(graph: Graph, x: Value, dy: Value, w: Value, b: Value | null): [Value, Value | null] {
  const dw = graph.temporary('dw', 'f32', w.dims);
  const db = b ? graph.temporary('db', 'f32', [fixed(widthOf(b))]) : null;
  graph.emit(linearDwDefinition, [x, dy], [dw, db]);
  return [dw, db];
}
