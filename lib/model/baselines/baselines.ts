import { symbol } from '../../graph/dim.ts';
import { type Graph, type Value } from '../../graph/graph.ts';
import { concat } from '../../graph/ops/concat.ts';
import { pairFeatures, pairPool } from '../../graph/ops/pairs.ts';
import { segmentPool } from '../../graph/ops/segment_pool.ts';
import { gatherRows } from '../../graph/ops/gather_rows.ts';
import type { Schema } from '../../schema/schema.ts';
import { type BaselineConfig } from '../config.ts';
import { candidateAsEvent, eventVector, headVector, sideFeatures, sideVector } from '../features.ts';
import { type Cache, headLogits, headShare } from '../head.ts';
import { indexInput, matrix, mlp, normalInit, normalise, offsetsInput } from '../layers.ts';

/**
 * The baselines of the paper's table on the same schema (spec 7.1): Base has no history; SumPooling adds up the event
 * tokens; DIN weighs them by the candidate (Zhou et al. 2018: activation unit over [c, e, c-e, c*e], no softmax).
 */
const R = symbol('requests');

export function baselineUserSide(graph: Graph, schema: Schema, c: BaselineConfig): Cache {
  const parts = (['user', 'context'] as const).map((side) => headVector(graph, sideFeatures(graph, schema, side), 'layer')).filter((v) => v !== null);
  const cache: Cache = {};
  if (c.kind !== 'base') {
    const tokens = graph.border(eventTokens(graph, schema, c));
    if (c.kind === 'din') cache['events'] = tokens;
    parts.push(segmentPool(graph, tokens, offsetsInput(graph, 'event.offsets', R), c.kind === 'din' ? 'mean' : 'sum'));
  }
  cache['request'] = headShare(graph, schema, c.head.hidden, parts.length > 0 ? concat(graph, ...parts) : constantRows(graph));
  return cache;
}

/** @param watch is shown the weights of DIN's activation unit, [pairs, 1] */
export function baselineCandidateSide(graph: Graph, schema: Schema, c: BaselineConfig, cache: Cache, watch?: (weights: Value) => void): Value {
  const features = sideFeatures(graph, schema, 'candidate');
  let mine = headVector(graph, features, 'layer')!;
  if (c.kind === 'din') {
    const shared = candidateAsEvent(graph, schema, eventOptions(c));
    const token = shared ? dinToken(graph, c, 'token', shared) : dinToken(graph, c, 'candidate_token', sideVector(graph, features)!);
    mine = concat(graph, mine, token, dinPool(graph, c, token, cache['events']!, watch));
  }
  return graph.scope('head', () => headLogits(graph, schema, c.head.hidden, mine, cache['request']!));
}

function dinPool(graph: Graph, c: BaselineConfig, token: Value, events: Value, watch?: (weights: Value) => void): Value {
  const offsets = {
    candidates: offsetsInput(graph, 'candidate.offsets', R),
    events: offsetsInput(graph, 'event.offsets', R),
    pairs: offsetsInput(graph, 'pair.offsets', R),
  };
  return graph.scope('din', () => {
    const pairs = pairFeatures(graph, token, events, offsets, symbol('pairs'));
    const weights = mlp(graph, 'din_unit', pairs, [...c.unit, 1], 'silu', normalInit(c.unit.at(-1) ?? 1, 0.1));
    watch?.(weights);
    return pairPool(graph, weights, events, token, offsets);
  });
}

function eventTokens(graph: Graph, schema: Schema, c: BaselineConfig): Value {
  return graph.scope('tokens', () => {
    const events = eventVector(graph, schema, eventOptions(c));
    return c.kind === 'din' ? dinToken(graph, c, 'token', events) : mlp(graph, 'token', events, [2 * c.width, c.width]);
  });
}

/**
 * Tokens of unit scale: fresh embeddings are small, and of small tokens the products in [c, e, c-e, c*e], which tell a
 * match, are lost beside the rest. (Zhou et al. normalise inside the unit, by Dice.)
 */
function dinToken(graph: Graph, c: BaselineConfig, name: string, x: Value): Value {
  return normalise(graph, `${name}_norm`, mlp(graph, name, x, [2 * c.width, c.width]), 'layer');
}

const eventOptions = (c: BaselineConfig) => ({ maxHistory: c.maxHistory, timeGap: c.timeGap, position: true });

/** A request without any feature gives one learned row. */
function constantRows(graph: Graph): Value {
  return gatherRows(graph, indexInput(graph, 'zero.requests', R), matrix(graph, 'request.constant', 1, 8));
}

export function baselineCacheRows(name: string): ReturnType<typeof symbol> {
  return name === 'events' ? symbol('events') : R;
}
