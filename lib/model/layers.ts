import { constantOf, type Dim, fixed } from '../graph/dim.ts';
import { type Graph, type Init, type Value, widthOf } from '../graph/graph.ts';
import type { Activation } from '../graph/ops/activation.ts';
import { linear } from '../graph/ops/linear.ts';
import { norm, type NormKind } from '../graph/ops/norm.ts';

/** Parameters named `<name>.weight`, `<name>.bias`, and the layers made of them. */

export function normalInit(fanIn: number, gain = 1): Init {
  return { kind: 'normal', std: gain / Math.sqrt(fanIn) };
}

export const zeros: Init = { kind: 'constant', value: 0 };

export function matrix(graph: Graph, name: string, rows: number, columns: number, init: Init = normalInit(rows)): Value {
  return graph.parameter(name, [rows, columns], { init, decay: true, sparse: false });
}

export function vector(graph: Graph, name: string, width: number, value = 0): Value {
  return graph.parameter(name, [width], { init: { kind: 'constant', value }, decay: false, sparse: false });
}

export interface DenseOptions {
  readonly activation?: Activation;
  readonly residual?: Value | null;
  readonly init?: Init;
  readonly bias?: boolean;
}

export function dense(graph: Graph, name: string, x: Value, width: number, options: DenseOptions = {}): Value {
  const w = matrix(graph, `${name}.weight`, widthOf(x), width, options.init);
  const bias = options.bias === false ? null : vector(graph, `${name}.bias`, width);
  return linear(graph, x, w, { bias, activation: options.activation ?? 'none', residual: options.residual ?? null });
}

/** Hidden layers with an activation, then a plain last one. They are numbered from `from`. */
export function mlp(graph: Graph, name: string, x: Value, widths: readonly number[], activation: Activation = 'gelu', last?: Init, from = 0): Value {
  return widths.reduce((y, width, i) => {
    const end = i === widths.length - 1;
    return dense(graph, `${name}.${from + i}`, y, width, { activation: end ? 'none' : activation, ...(end && last ? { init: last } : {}) });
  }, x);
}

export function normalise(graph: Graph, name: string, x: Value, kind: NormKind): Value {
  const gamma = vector(graph, `${name}.gain`, widthOf(x), 1);
  const beta = kind === 'layer' ? vector(graph, `${name}.bias`, widthOf(x)) : null;
  return norm(graph, x, gamma, beta, kind);
}

/** An offsets input: i32 [count + 1]. */
export function offsetsInput(graph: Graph, name: string, count: Dim): Value {
  return graph.input(name, 'i32', [{ constant: count.constant + 1, terms: count.terms }]);
}

export function indexInput(graph: Graph, name: string, rows: Dim): Value {
  return graph.input(name, 'i32', [rows]);
}

export { constantOf, fixed };
