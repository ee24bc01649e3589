import { symbol, times, plus, type Dim } from '../graph/dim.ts';
import { type Graph, type Init, type Value, widthOf } from '../graph/graph.ts';
import { add } from '../graph/ops/add.ts';
import { attention, type AttentionRows } from '../graph/ops/attention.ts';
import { candidateAttention, type CandidateKeys } from '../graph/ops/candidate_attention.ts';
import { concat } from '../graph/ops/concat.ts';
import { embed } from '../graph/ops/embed.ts';
import { gatherRows } from '../graph/ops/gather_rows.ts';
import { groupAttention } from '../graph/ops/group_attention.ts';
import { merge } from '../graph/ops/merge.ts';
import { segmentPool } from '../graph/ops/segment_pool.ts';
import type { Schema } from '../schema/schema.ts';
import { block, type BlockStyle } from './block.ts';
import { type LongerConfig, queryCount } from './config.ts';
import { candidateAsEvent, type EventOptions, eventSegments, eventVector, headVector, type SideFeatures, sideFeatures, sideVector } from './features.ts';
import { dense, indexInput, matrix, mlp, normalise, normalInit, offsetsInput } from './layers.ts';
import { type Cache, headLogits, headShare } from './head.ts';
import { appendRefusal } from './append.ts';
import { anchorCount, candidateRowCount, segmentCount } from './visibility.ts';

/** Symbols of the history side; docs/architecture.md lists them. */
const R = symbol('requests');
const G = symbol('groups');
const C = symbol('candidates');
const S = symbol('sequence'); // asking rows of the sequence, without anchors

const style = (c: LongerConfig): BlockStyle => ({ norm: c.norm, ffn: c.ffn, gate: c.gate, dropout: c.dropout, attentionGain: c.attentionGain });
const eventOptions = (c: LongerConfig): EventOptions => ({ maxHistory: c.maxHistory, timeGap: c.timeGap, alignment: c.alignment, position: true });

/** Event tokens x_t = MLP([e_t + pos_t ; timeDiff_t]), width d (spec 2.4). */
function eventTokens(graph: Graph, schema: Schema, c: LongerConfig): Value {
  return graph.scope('tokens', () => graph.border(tokenMlp(graph, eventVector(graph, schema, eventOptions(c)), c)));
}

function tokenMlp(graph: Graph, x: Value, c: LongerConfig): Value {
  return mlp(graph, 'token', x, [2 * c.width, c.width]);
}

/** InnerTransformer blocks inside each group and the merge to one row of K*d a group, with the outer residual (spec 3). */
function mergedTokens(graph: Graph, x: Value, c: LongerConfig): Value {
  const { offsets: eventOffsets, count } = eventSegments(graph, c.alignment);
  const groupOffsets = offsetsInput(graph, c.alignment === 'oldest' ? 'group.parts' : 'group.offsets', count);
  let inner = x;
  for (let i = 0; i < c.inner.blocks; ++i)
    inner = graph.scope(`inner${i}`, () => {
      const b = block(graph, `inner${i}`, c.width, c.inner.heads, style(c));
      const n = b.normed(inner);
      const { k, v } = b.keys(n);
      return b.finish(inner, n, groupAttention(graph, b.query(n), k, v, eventOffsets, c.inner.heads, c.merge));
    });
  // concat(x) + flatten(inner(x)) = flatten(x + inner(x)): one sum before the merge serves both.
  const joined = c.inner.blocks > 0 ? add(graph, x, inner) : x;
  return graph.border(merge(graph, joined, eventOffsets, groupOffsets, G, c.merge));
}

/** Tokens of the user's side, a row a request each: user/context, and one of the user id where the model has it. */
function userTokens(graph: Graph, schema: Schema, c: LongerConfig): { sides: SideFeatures[]; user: Value; uid: Value | null } {
  return graph.scope('user', () => {
    const D = c.width * c.merge;
    const sides = (['user', 'context'] as const).map((side) => sideFeatures(graph, schema, side));
    const parts = sides.map((f) => sideVector(graph, f)).filter((v) => v !== null);
    const features = parts.length > 0 ? concat(graph, ...parts) : null;
    // Without user and context features the token is its slot's learned vector alone.
    const token = features
      ? mlp(graph, 'user_token', features, [D, D])
      : gatherRows(graph, indexInput(graph, 'zero.requests', R), matrix(graph, 'user_token.constant', 1, D));
    let uid: Value | null = null;
    if (c.globals.uid !== null) {
      const field = schema.sides.user.fields.find((f) => f.name === c.globals.uid)!;
      const table = graph.parameter(`table.${field.table}`, [schema.tables[field.table]!.size, field.width], {
        init: { kind: 'normal', std: 0.1 },
        decay: false,
        sparse: true,
      });
      const id = embed(graph, R, field.width, [{ table, ids: graph.input(`user.${field.name}`, 'i32', [R]), column: 0 }]);
      uid = dense(graph, 'uid_token', id, D);
    }
    return { sides, user: token, uid };
  });
}

function clsTokens(graph: Graph, c: LongerConfig): Value | null {
  return c.globals.cls > 0 ? matrix(graph, 'cls', c.globals.cls, c.width * c.merge, { kind: 'normal', std: 0.5 }) : null;
}

/** Global tokens get a learned vector for their place (spec 2.1). `slotIndex` names the place of each row. */
function withSlots(graph: Graph, rows: Value, slotIndex: Value, count: number): Value {
  const slots = matrix(graph, 'slots', count, widthOf(rows), { kind: 'normal', std: 0.1 });
  return add(graph, rows, gatherRows(graph, slotIndex, slots));
}

/** Cached values with a row for each key of the cross layer; others of the history have one for each row that asks. */
export const ofKeys = (name: string): boolean => name === 'k0' || name === 'v0' || name === 'merged';

/** Whether a cached value is a layer's keys or values. */
export const isKeyOrValue = (name: string): boolean => /^[kv]\d+$/.test(name);

/** What an append goes on from: where rows of an earlier prefill that still hold come from, and where those computed now go. */
export interface Past {
  /** All rows of a cached value, those computed now among them. */
  join(name: string, fresh: Value): Value;
  /** Of rows that lie in pages (model/pages.ts): a layer's attention. Others lie end to end in the order of a prefill. */
  readonly attend?: (layer: number, q: Value, k: Value, v: Value, rows: { readonly qOffsets: Value; readonly limits: Value }) => Value;
}

/** Is shown the operands of every attention of history and candidates, layer by layer (model/explanation.ts). */
export interface AttentionWatch {
  readonly history: (layer: number, q: Value, k: Value, rows: AttentionRows) => void;
  readonly candidates: (layer: number, q: Value, ownK: Value, keys: CandidateKeys, m: number) => void;
}

/**
 * Everything that no candidate can change, once a request (spec 6, step 1): keys and values of every layer, the pooled
 * history, and what the user gives to the candidates' rows.
 * @param past what an append goes on from: events and rows of the graph are then those that have to be computed now (model/append.ts)
 */
export function userSide(graph: Graph, schema: Schema, c: LongerConfig, past: Past | null = null, watch?: AttentionWatch): Cache {
  const D = c.width * c.merge;
  const anchors = anchorCount(c);
  const keyRows = plus(times(R, anchors), G);
  const queryRows = past ? symbol('fresh') : plus(times(R, anchors), S);
  const appendable = appendRefusal(schema, c) === null;
  const { sides, user, uid } = userTokens(graph, schema, c);
  const cls = clsTokens(graph, c);
  const history = mergedTokens(graph, eventTokens(graph, schema, c), c);

  let keysFrom = history;
  if (anchors > 0)
    keysFrom = graph.scope('anchors', () => {
      const sources = [user, uid, cls].filter((v) => v !== null);
      const tokens = gatherRows(graph, indexInput(graph, 'anchor.index', times(R, anchors)), ...sources);
      const placed = withSlots(graph, tokens, indexInput(graph, 'anchor.slot', times(R, anchors)), anchors);
      return graph.border(gatherRows(graph, indexInput(graph, 'key.index', keyRows), placed, history));
    });

  const segments = times(R, segmentCount(c));
  const rows = {
    askOffsets: offsetsInput(graph, 'ask.offsets', segments),
    crossOffsets: offsetsInput(graph, 'cross.offsets', segments),
    selfOffsets: offsetsInput(graph, 'self.offsets', segments),
    crossLimits: graph.input('cross.limits', 'i32', [queryRows]),
    selfLimits: graph.input('self.limits', 'i32', [queryRows]),
  };
  const cache: Record<string, Value> = {};
  const queryIndex = indexInput(graph, 'query.index', queryRows);
  // A row that has to be computed again starts from its merged token; banded ones never have to.
  const join = (name: string, fresh: Value): Value => past?.join(name, fresh) ?? fresh;
  const tokens = c.window === 'full' ? join('merged', keysFrom) : keysFrom;
  if (appendable && c.window === 'full') cache['merged'] = tokens;
  const askFrom = c.queries.kind === 'learnable' ? [tokens, matrix(graph, 'queries', queryCount(c), D, { kind: 'normal', std: 0.5 })] : [tokens];
  let x = graph.border(gatherRows(graph, queryIndex, ...askFrom));

  for (let layer = 0; layer <= c.selfLayers; ++layer)
    x = graph.scope(`layer${layer}`, () => {
      const b = block(graph, `layer${layer}`, D, c.heads, style(c));
      const normed = b.normed(x);
      const fresh = b.keys(layer === 0 ? b.normed(keysFrom) : normed);
      const k = (cache[`k${layer}`] = join(`k${layer}`, fresh.k));
      const v = (cache[`v${layer}`] = join(`v${layer}`, fresh.v));
      const q = b.query(normed);
      if (past?.attend) return b.finish(x, normed, past.attend(layer, q, k, v, { qOffsets: rows.askOffsets, limits: layer === 0 ? rows.crossLimits : rows.selfLimits }));
      // The stretches of merged tokens that bands see overlap: each band gets its own.
      const seen = (all: Value): Value => (layer === 0 && c.window === 'banded' ? gatherRows(graph, indexInput(graph, 'cross.index', symbol('stretches')), all) : all);
      const visible = layer === 0
        ? { qOffsets: rows.askOffsets, kOffsets: rows.crossOffsets, limits: rows.crossLimits }
        : { qOffsets: rows.askOffsets, kOffsets: rows.selfOffsets, limits: rows.selfLimits };
      const [keys, values] = [seen(k), seen(v)];
      watch?.history(layer, q, keys, visible);
      return b.finish(x, normed, attention(graph, q, keys, values, visible, c.heads));
    });

  const request = graph.scope('history_out', () => {
    const out = join('out', normalise(graph, 'final_norm', x, c.norm));
    if (appendable) cache['out'] = out;
    const sequenceOffsets = offsetsInput(graph, 'sequence.offsets', R);
    const sequence = anchors > 0 || past?.attend ? gatherRows(graph, indexInput(graph, 'sequence.index', S), out) : out;
    const parts =
      c.head.kind === 'flatten'
        ? [merge(graph, sequence, sequenceOffsets, offsetsInput(graph, 'one.offsets', R), R, queryCount(c))]
        : [segmentPool(graph, sequence, sequenceOffsets, 'mean')];
    if (anchors > 0) {
      const anchorRows = gatherRows(graph, indexInput(graph, 'anchor.query', times(R, anchors)), out);
      parts.push(merge(graph, anchorRows, offsetsInput(graph, 'anchor.offsets', R), offsetsInput(graph, 'one.offsets', R), R, anchors));
    }
    return concat(graph, ...parts, ...sides.map((f) => headVector(graph, f, c.norm)).filter((v) => v !== null));
  });
  cache['request'] = headShare(graph, schema, c.head.hidden, request);
  if (c.visibility === 'paper') {
    cache['user'] = user;
    if (uid) cache['uid'] = uid;
  }
  return cache;
}

/** Rows per request of each cached value, for the score graph's inputs. */
export function cacheRows(c: LongerConfig): (name: string) => Dim {
  const anchors = anchorCount(c);
  return (name) => {
    if (ofKeys(name)) return plus(times(R, anchors), G);
    return name === 'out' || isKeyOrValue(name) ? plus(times(R, anchors), S) : R;
  };
}

/** A layer's attention of candidates over cached keys that lie in pages (model/pages.ts). */
export type CandidateAttend = (layer: number, q: Value, own: { readonly k: Value; readonly v: Value }, candidateOffsets: Value, m: number) => Value;

/** What is left for each candidate (spec 6, step 2): its own rows through every layer against the cached keys, and the head. */
export function candidateSide(graph: Graph, schema: Schema, c: LongerConfig, cache: Cache, attend?: CandidateAttend, watch?: AttentionWatch): Value {
  const D = c.width * c.merge;
  const m = candidateRowCount(c);
  const rows = times(C, m);
  const candidateOffsets = offsetsInput(graph, 'candidate.offsets', R);
  const features = sideFeatures(graph, schema, 'candidate');

  const token = graph.scope('candidate_token', () => {
    const shared = c.candidateEncoder === 'shared' ? candidateAsEvent(graph, schema, eventOptions(c)) : null;
    const own = mlp(graph, 'candidate_token', sideVector(graph, features)!, [D, D], 'gelu', normalInit(D, shared ? 0.1 : 1));
    if (!shared) return own;
    // The candidate as an event token, repeated over the K places of a merged token: content matches from the start.
    const tiled: Init = { kind: 'identity-tiles', scale: 1 };
    const asEvent = tokenMlp(graph, shared, c);
    return dense(graph, 'candidate_tile', asEvent, D, { init: tiled, residual: own });
  });

  let x = graph.scope('globals', () => {
    const sources = [token];
    if (c.visibility === 'paper') {
      const cls = clsTokens(graph, c);
      sources.push(cache['user']!);
      if (cache['uid']) sources.push(cache['uid']);
      if (cls) sources.push(cls);
    }
    const stacked = m === 1 ? token : gatherRows(graph, indexInput(graph, 'global.index', rows), ...sources);
    const slots = matrix(graph, 'candidate_slots', m, D, { kind: 'normal', std: 0.1 });
    return graph.border(add(graph, stacked, gatherRows(graph, indexInput(graph, 'global.slot', rows), slots)));
  });

  const keyOffsets = offsetsInput(graph, 'key.offsets', R);
  const queryOffsets = offsetsInput(graph, 'query.offsets', R);
  for (let layer = 0; layer <= c.selfLayers; ++layer)
    x = graph.scope(`candidate_layer${layer}`, () => {
      const b = block(graph, `layer${layer}`, D, c.heads, style(c));
      const normed = b.normed(x);
      const own = b.keys(normed);
      const q = b.query(normed);
      if (attend) return b.finish(x, normed, attend(layer, q, own, candidateOffsets, m));
      const keys = { k: cache[`k${layer}`]!, v: cache[`v${layer}`]!, candidateOffsets, kOffsets: layer === 0 ? keyOffsets : queryOffsets };
      watch?.candidates(layer, q, own.k, keys, m);
      return b.finish(x, normed, candidateAttention(graph, q, own.k, own.v, keys, c.heads, m));
    });

  return graph.scope('head', () => {
    const out = normalise(graph, 'final_norm', x, c.norm);
    const flat = m === 1 ? out : merge(graph, out, offsetsInput(graph, 'candidate.row_offsets', R), candidateOffsets, C, m);
    return headLogits(graph, schema, c.head.hidden, concat(graph, flat, headVector(graph, features, c.norm)!), cache['request']!);
  });
}
