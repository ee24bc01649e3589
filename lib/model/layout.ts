import type { Batch, CandidateBatch, HistoryForm } from '../data/batch.ts';
import { LongerError } from '../errors.ts';
import type { NumericArray } from '../native/types.ts';
import { historyForm, type ModelConfig } from './config.ts';
import { timeBoundaries } from './features.ts';
import { anchorCount, candidateRowCount, historyRows, type HistoryRows, running, windowOf } from './visibility.ts';

/** A batch in the form that a model's graphs read: sizes by symbol, arrays by input name. */
export interface ModelInputs {
  readonly sizes: Record<string, number>;
  readonly arrays: Map<string, NumericArray>;
}

const boundariesOf = new Map<number, Float64Array>();

/** Adds to the batch's columns what the model derives from its counts: offsets, row indices, limits. */
export function layoutBatch(config: ModelConfig, batch: Batch): ModelInputs {
  const history = layoutHistory(config, batch);
  const candidates = layoutCandidates(config, batch);
  return joinLayouts(config, history, candidates);
}

/** The inputs of candidates against a history side that was laid out before, possibly with other candidates. */
export function joinLayouts(config: ModelConfig, history: ModelInputs, candidates: ModelInputs): ModelInputs {
  const { sizes, arrays } = layoutBeside(config, history, candidates);
  return { sizes, arrays: new Map([...history.arrays, ...arrays]) };
}

/** The same with the arrays of the candidates alone: where one is missing, the history's holds. */
export function layoutBeside(config: ModelConfig, history: ModelInputs, candidates: ModelInputs): ModelInputs {
  const sizes = { ...history.sizes, ...candidates.sizes };
  const { arrays } = candidates;
  if (config.kind !== 'longer') {
    const events = history.arrays.get('event.offsets')!;
    const candidate = arrays.get('candidate.offsets')!;
    const pairs = new Int32Array(events.length);
    for (let r = 1; r < pairs.length; ++r) pairs[r] = pairs[r - 1]! + (events[r]! - events[r - 1]!) * (candidate[r]! - candidate[r - 1]!);
    arrays.set('pair.offsets', pairs);
    sizes['pairs'] = pairs.at(-1)!;
  }
  return { sizes, arrays };
}

/** What no candidate can change. */
export function layoutHistory(config: ModelConfig, batch: Batch): ModelInputs {
  const arrays = new Map<string, NumericArray>(batch.columns);
  const { requests, events } = batch;
  const sizes: Record<string, number> = { requests, events, ...idCounts(batch) };
  checkForm(config, batch);
  let boundaries = boundariesOf.get(config.timeGap.buckets);
  if (!boundaries) boundariesOf.set(config.timeGap.buckets, (boundaries = timeBoundaries(config.timeGap.buckets)));
  arrays.set('time.boundaries', boundaries);
  arrays.set('zero.requests', new Int32Array(requests));
  if (config.kind !== 'longer') return { sizes, arrays };

  const gaps = batch.columns.get('event.gap');
  if (gaps) arrays.set('event.gap_bucket', Int32Array.from(gaps, (gap) => bucketOf(boundaries, gap)));
  if (config.alignment === 'oldest') partArrays(arrays, batch, config.merge);
  const h = historyRows(config, Array.from(batch.eventCounts, (n, r) => windowOf(config, batch.firstEvents[r]!, n)));
  rowArrays(h, sizes, arrays);
  const anchors = anchorCount(config);
  if (anchors > 0) anchorArrays(arrays, requests, anchors, config.globals, h);
  return { sizes, arrays };
}

/** Offsets, indices and limits of the history's rows. */
export function rowArrays(h: HistoryRows, sizes: Record<string, number>, arrays: Map<string, NumericArray>): void {
  const requests = h.keyOffsets.length - 1;
  sizes['groups'] = h.groupOffsets[requests]!;
  sizes['sequence'] = h.sequenceOffsets[requests]!;
  arrays.set('group.offsets', h.groupOffsets);
  arrays.set('key.offsets', h.keyOffsets);
  arrays.set('query.offsets', h.queryOffsets);
  arrays.set('query.index', h.queryIndex);
  arrays.set('ask.offsets', h.askOffsets);
  arrays.set('cross.offsets', h.crossOffsets);
  arrays.set('self.offsets', h.selfOffsets);
  if (h.crossIndex) {
    arrays.set('cross.index', h.crossIndex);
    sizes['stretches'] = h.crossIndex.length;
  }
  arrays.set('cross.limits', h.crossLimits);
  arrays.set('self.limits', h.selfLimits);
  arrays.set('sequence.index', h.sequenceIndex);
  arrays.set('sequence.offsets', h.sequenceOffsets);
  arrays.set('one.offsets', Int32Array.from({ length: requests + 1 }, (_, r) => r));
}

/** @throws LongerError ERR_DATA for a batch that was packed for another form of history */
function checkForm(config: ModelConfig, { form }: Batch): void {
  const wanted = historyForm(config);
  const said = ({ maxHistory, alignment = 'newest', merge = 1, position = 'recency', timeGap }: HistoryForm): string[] =>
    [`maxHistory ${maxHistory}`, `alignment ${alignment}`, `merge ${alignment === 'oldest' ? merge : 'of no matter'}`, `position ${position}`, `timeGap to ${timeGap?.to ?? 'request'}`];
  const [given, needed] = [said(form), said(wanted)];
  const at = given.findIndex((part, i) => part !== needed[i]);
  if (at >= 0) throw new LongerError('ERR_DATA', `it was packed with ${given[at]}, the model reads ${needed[at]}`, { place: 'batch', remedy: 'Give packBatch historyForm(model.config)' });
}

/** How many boundaries are at most the gap. */
function bucketOf(boundaries: Float64Array, gap: number): number {
  let low = 0;
  let high = boundaries.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (boundaries[middle]! <= gap) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Groups counted from the oldest event, told to kernels that count from the newest: a request's whole groups are one segment, the events left
 * over are another. So the newest event stands last in its group whichever end is counted from.
 */
function partArrays(arrays: Map<string, NumericArray>, batch: Batch, merge: number): void {
  const whole = Array.from(batch.eventCounts, (n) => n - (n % merge));
  const counts = whole.flatMap((n, r) => [n, batch.eventCounts[r]! - n]);
  arrays.set('event.parts', running(counts));
  arrays.set('group.parts', running(counts.map((n) => Math.ceil(n / merge))));
  const time = batch.columns.get('request.time');
  if (time) arrays.set('part.time', Float64Array.from(counts, (_, i) => time[i >> 1]!));
}

/** What the candidates add, and a change of candidates changes. */
export function layoutCandidates(config: ModelConfig, batch: CandidateBatch): ModelInputs {
  const arrays = new Map<string, NumericArray>(batch.columns);
  const { requests, candidates } = batch;
  const request = new Int32Array(candidates);
  for (let r = 0, c = 0; r < requests; ++r) for (let i = 0; i < batch.candidateCounts[r]!; ++i) request[c++] = r;
  arrays.set('candidate.request', request);
  if (config.kind === 'longer') globalArrays(arrays, batch, request, config);
  return { sizes: { requests, candidates, ...idCounts(batch) }, arrays };
}

/** Ids of each multi-valued feature. */
function idCounts(batch: CandidateBatch): Record<string, number> {
  const sizes: Record<string, number> = {};
  for (const name of batch.columns.keys()) {
    if (!name.endsWith('.offsets')) continue;
    const feature = name.slice(0, -'.offsets'.length);
    const ids = batch.columns.get(feature);
    if (ids) sizes[`${feature}.ids`] = ids.length;
  }
  return sizes;
}

function anchorArrays(
  arrays: Map<string, NumericArray>,
  requests: number,
  anchors: number,
  globals: { readonly uid: string | null; readonly cls: number },
  h: HistoryRows,
): void {
  // Sources end to end: user tokens [R], uid tokens [R] where there are, CLS tokens [cls].
  const uid = globals.uid === null ? 0 : 1;
  const index = new Int32Array(requests * anchors);
  const slot = new Int32Array(requests * anchors);
  const query = new Int32Array(requests * anchors);
  const offsets = new Int32Array(requests + 1);
  const keys = new Int32Array(h.keyOffsets[requests]!);
  for (let r = 0; r < requests; ++r) {
    for (let a = 0; a < anchors; ++a) {
      const i = r * anchors + a;
      index[i] = a <= uid ? a * requests + r : (1 + uid) * requests + (a - 1 - uid);
      slot[i] = a;
      query[i] = h.queryOffsets[r]! + a;
      keys[h.keyOffsets[r]! + a] = i;
    }
    offsets[r + 1] = (r + 1) * anchors;
    for (let g = h.groupOffsets[r]!, k = h.keyOffsets[r]! + anchors; g < h.groupOffsets[r + 1]!; ++g, ++k) keys[k] = requests * anchors + g;
  }
  arrays.set('anchor.index', index);
  arrays.set('anchor.slot', slot);
  arrays.set('anchor.query', query);
  arrays.set('anchor.offsets', offsets);
  arrays.set('key.index', keys);
}

/** Rows of each candidate as stored: candidate, CLS tokens, uid, user/context last (paper); the candidate alone (anchored). */
function globalArrays(
  arrays: Map<string, NumericArray>,
  batch: CandidateBatch,
  request: Int32Array,
  config: Extract<ModelConfig, { kind: 'longer' }>,
): void {
  const m = candidateRowCount(config);
  const { candidates: C, requests: R } = batch;
  const uid = config.globals.uid === null ? 0 : 1;
  const index = new Int32Array(C * m);
  const slot = new Int32Array(C * m);
  // Sources end to end: candidate tokens [C], user tokens [R], uid tokens [R] where there are, CLS tokens [cls].
  for (let c = 0, i = 0; c < C; ++c) {
    index[i] = c;
    slot[i++] = 0;
    if (m === 1) continue;
    for (let t = 0; t < config.globals.cls; ++t) {
      index[i] = C + (1 + uid) * R + t;
      slot[i++] = 1 + t;
    }
    if (uid === 1) {
      index[i] = C + R + request[c]!;
      slot[i++] = m - 2;
    }
    index[i] = C + request[c]!;
    slot[i++] = m - 1;
  }
  const rowOffsets = new Int32Array(R + 1);
  for (let r = 0; r < R; ++r) rowOffsets[r + 1] = rowOffsets[r]! + m * batch.candidateCounts[r]!;
  arrays.set('global.index', index);
  arrays.set('global.slot', slot);
  arrays.set('candidate.row_offsets', rowOffsets);
}
