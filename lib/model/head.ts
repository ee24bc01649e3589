import { symbol } from '../graph/dim.ts';
import { type Graph, type Value, widthOf } from '../graph/graph.ts';
import { activation } from '../graph/ops/activation.ts';
import { gatherRows } from '../graph/ops/gather_rows.ts';
import { linear } from '../graph/ops/linear.ts';
import type { Schema } from '../schema/schema.ts';
import { indexInput, mlp, vector } from './layers.ts';

/** Values of the user's side that scoring reads, by name. */
export type Cache = Record<string, Value>;

/** Rows of the first layer's matrix: 0 for those that the candidate is multiplied with, 1 for the request's below them. */
function firstMatrix(graph: Graph, side: 'candidate' | 'request', x: Value, width: number): Value {
  const part = { of: 'head.0.weight', index: side === 'candidate' ? 0 : 1 };
  return graph.parameter(`${part.of}.${side}`, [widthOf(x), width], { init: { kind: 'fan-in', gain: 1 }, decay: true, sparse: false, part });
}

/**
 * The head is an MLP over [candidate; request], one logit a task. The product of its first layer with the request's part is the same for every
 * candidate of the request: it belongs to the user's side, and is computed and cached once.
 * @returns that product, before bias and activation. [requests, width of the layer]
 */
export function headShare(graph: Graph, schema: Schema, hidden: readonly number[], request: Value): Value {
  const first = hidden[0] ?? schema.tasks.length;
  return graph.scope('head', () => linear(graph, request, firstMatrix(graph, 'request', request, first)));
}

/** @param share what `headShare` gave @returns [candidates, tasks] */
export function headLogits(graph: Graph, schema: Schema, hidden: readonly number[], candidate: Value, share: Value): Value {
  const [first = schema.tasks.length, ...rest] = [...hidden, schema.tasks.length];
  const ofRequest = gatherRows(graph, indexInput(graph, 'candidate.request', symbol('candidates')), share);
  const y = linear(graph, candidate, firstMatrix(graph, 'candidate', candidate, first), { bias: vector(graph, 'head.0.bias', first), residual: ofRequest });
  return rest.length === 0 ? y : mlp(graph, 'head', activation(graph, y, 'gelu'), rest, 'gelu', undefined, 1);
}
