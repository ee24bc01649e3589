import { fixed } from '../dim.ts';
import { type Graph, type OpDefinition, type Value, widthOf } from '../graph.ts';

const definition: OpDefinition = {
  name: 'bce',
  fullInputs: 'all',
  fullOutputs: 'all',
  gradient(node, [dloss], { graph }) {
    const dlogits = graph.like(node.inputs[0]!, 'dlogits');
    graph.emit({ name: 'bce_dx', fullInputs: 'all', fullOutputs: 'all' }, dloss ? [...node.inputs, dloss] : [...node.inputs], [dlogits], node.attrs);
    return [dlogits, null, null, null];
  },
};

export interface BceOptions {
  /** Of each label: [candidates, tasks]. Default 1. */
  readonly weights?: Value | null;
  /** What a task's sum is divided by: f32 [tasks]. Default: the weights of its labelled candidates. */
  readonly totals?: Value | null;
}

/** Mean binary cross-entropy of each task over its labelled candidates, weighted sum over tasks (spec 1). */
export function bce(graph: Graph, logits: Value, labels: Value, { weights = null, totals = null }: BceOptions, taskWeights: readonly number[]): { loss: Value; perTask: Value } {
  const loss = graph.temporary('loss', 'f32', [fixed(1)]);
  const perTask = graph.temporary('per_task', 'f32', [fixed(widthOf(logits))]);
  graph.emit(definition, [logits, labels, weights, totals], [loss, perTask], taskWeights);
  return { loss, perTask };
}
