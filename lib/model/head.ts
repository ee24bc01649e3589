import { symbol } from '../graph/dim.ts';
import { type Graph, type Value } from '../graph/graph.ts';
import { concat } from '../graph/ops/concat.ts';
import { gatherRows } from '../graph/ops/gather_rows.ts';
import type { Schema } from '../schema/schema.ts';
import { indexInput, mlp } from './layers.ts';

/** Values of the user's side that scoring reads, by name. */
export type Cache = Record<string, Value>;

/** MLP over what the candidate and its request give: one logit a task. [candidates, tasks] */
export function headLogits(graph: Graph, schema: Schema, hidden: readonly number[], candidate: Value, request: Value): Value {
  const ofRequest = gatherRows(graph, indexInput(graph, 'candidate.request', symbol('candidates')), request);
  return mlp(graph, 'head', concat(graph, candidate, ofRequest), [...hidden, schema.tasks.length]);
}
