import { Graph, type Value } from '../graph/graph.ts';
import { attentionProbabilities, candidateAttentionProbabilities } from '../graph/ops/attention_probabilities.ts';
import { inferenceGraph } from '../graph/passes/inference.ts';
import type { Target } from '../graph/passes/inner_transformer.ts';
import type { Precision } from '../graph/passes/precision.ts';
import { baselineCandidateSide, baselineUserSide } from './baselines/baselines.ts';
import { groupCount, type LongerConfig, type ModelConfig, queryCount } from './config.ts';
import { type AttentionWatch, candidateSide, userSide } from './longer.ts';
import type { ModelDescription } from './model.ts';
import { anchorCount, candidateRowCount } from './visibility.ts';

/** Why the scores of a model cannot be explained by its events; null where they can. */
export function explanationRefusal(config: ModelConfig): string | null {
  return config.kind === 'longer' || config.kind === 'din' ? null : `'${config.kind}' does not weigh events by the candidate`;
}

/** Keys that a row of the history may see in a layer, at most. */
export function mostKeys(config: LongerConfig, layer: number): number {
  return anchorCount(config) + (layer === 0 ? groupCount(config) : queryCount(config));
}

/**
 * The full forward pass, and what its attention saw: outputs `logits` as elsewhere; `history.<layer>` f32 [asking rows, mostKeys] and
 * `candidates.<layer>` f32 [rows of candidates, mostKeys + m], the probabilities averaged over heads (layer 0 is the cross layer); of DIN
 * `weights` [pairs, 1]. The logits are the same bits as without.
 */
export function explanationGraph(model: ModelDescription, policy: Precision, target: Target): Graph {
  const { schema, config } = model;
  const graph = new Graph();
  let logits: Value;
  if (config.kind === 'longer') {
    const watch: AttentionWatch = {
      history: (layer, q, k, rows) => { graph.output(`history.${layer}`, attentionProbabilities(graph, q, k, rows, config.heads, mostKeys(config, layer))); },
      candidates: (layer, q, ownK, keys, m) => {
        graph.output(`candidates.${layer}`, candidateAttentionProbabilities(graph, q, ownK, keys, config.heads, m, mostKeys(config, layer) + candidateRowCount(config)));
      },
    };
    logits = candidateSide(graph, schema, config, userSide(graph, schema, config, null, watch), undefined, watch);
  } else {
    logits = baselineCandidateSide(graph, schema, config, baselineUserSide(graph, schema, config), (weights) => { graph.output('weights', weights); });
  }
  graph.output('logits', logits);
  return inferenceGraph(graph, policy, target, [logits]);
}
