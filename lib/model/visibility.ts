import type { Batch } from '../data/batch.ts';
import { type LongerConfig } from './config.ts';

/**
 * Who sees whom (spec 2.3, docs/model.md): the one place that decides it. Rows are stored oldest first with the
 * user-side globals of `anchored` in front, so that what a row may see is always a prefix of its request's rows: one
 * number a row, its limit.
 */
export interface HistoryRows {
  /** Merged tokens: i32 [R+1]. */
  readonly groupOffsets: Int32Array;
  /** Rows that give keys in the cross layer, anchors then merged tokens: i32 [R+1]. */
  readonly keyOffsets: Int32Array;
  /** Rows that ask, anchors then selected tokens; they are all keys of the later layers: i32 [R+1]. */
  readonly queryOffsets: Int32Array;
  /** Of each asking row: its row among the keys, or (learnable queries) keys + number of the query. */
  readonly queryIndex: Int32Array;
  /** Limits in the cross layer and in the self layers. */
  readonly crossLimits: Int32Array;
  readonly selfLimits: Int32Array;
  /** Which of the asking rows stand for the sequence, without anchors: index into asking rows, and i32 [R+1]. */
  readonly sequenceIndex: Int32Array;
  readonly sequenceOffsets: Int32Array;
}

/** User-side global rows of a request that are stored in front of its history. */
export function anchorCount(config: LongerConfig): number {
  return config.visibility === 'anchored' ? 1 + (config.globals.uid === null ? 0 : 1) + config.globals.cls : 0;
}

/** Global rows that belong to a candidate. */
export function candidateRowCount(config: LongerConfig): number {
  return config.visibility === 'anchored' ? 1 : 2 + (config.globals.uid === null ? 0 : 1) + config.globals.cls;
}

/** Positions (0 = oldest) of the merged tokens that ask, ascending. */
export function selectQueries(config: LongerConfig, groups: number): number[] {
  const q = config.queries;
  const evenly = (count: number, from: number, to: number): number[] => {
    // `count` of the positions from..to-1, evenly spaced and always with the newest.
    const n = to - from;
    const c = Math.min(count, n);
    return Array.from({ length: c }, (_, i) => to - 1 - Math.floor((i * n) / c)).reverse();
  };
  const all = (from: number): number[] => Array.from({ length: groups - from }, (_, i) => from + i);
  switch (q.kind) {
    case 'all':
      return all(0);
    case 'recent':
      return all(Math.max(0, groups - q.k));
    case 'uniform':
      return evenly(q.k, 0, groups);
    case 'recent+uniform': {
      const border = Math.max(0, groups - q.recent);
      return [...evenly(q.uniform, 0, border), ...all(border)];
    }
    case 'learnable':
      return [];
  }
}

export function historyRows(config: LongerConfig, batch: Pick<Batch, 'requests' | 'eventCounts'>): HistoryRows {
  const anchors = anchorCount(config);
  const learnable = config.queries.kind === 'learnable' ? config.queries.k : 0;
  const R = batch.requests;
  const groupOffsets = new Int32Array(R + 1);
  const keyOffsets = new Int32Array(R + 1);
  const queryOffsets = new Int32Array(R + 1);
  const sequenceOffsets = new Int32Array(R + 1);
  const selected: number[][] = [];
  const memo = new Map<number, number[]>();
  for (let r = 0; r < R; ++r) {
    const groups = Math.ceil(batch.eventCounts[r]! / config.merge);
    let picks = memo.get(groups);
    if (!picks) memo.set(groups, (picks = selectQueries(config, groups)));
    selected.push(picks);
    groupOffsets[r + 1] = groupOffsets[r]! + groups;
    keyOffsets[r + 1] = keyOffsets[r]! + anchors + groups;
    sequenceOffsets[r + 1] = sequenceOffsets[r]! + picks.length + learnable;
    queryOffsets[r + 1] = queryOffsets[r]! + anchors + picks.length + learnable;
  }
  const queries = queryOffsets[R]!;
  const keys = keyOffsets[R]!;
  const queryIndex = new Int32Array(queries);
  const crossLimits = new Int32Array(queries);
  const selfLimits = new Int32Array(queries);
  const sequenceIndex = new Int32Array(sequenceOffsets[R]!);
  for (let r = 0, row = 0, s = 0; r < R; ++r) {
    const first = queryOffsets[r]!;
    const keyCount = keyOffsets[r + 1]! - keyOffsets[r]!;
    const queryRows = queryOffsets[r + 1]! - first;
    for (let a = 0; a < anchors; ++a, ++row) {
      // A user-side global sees all user-side rows.
      queryIndex[row] = keyOffsets[r]! + a;
      crossLimits[row] = keyCount;
      selfLimits[row] = queryRows;
    }
    for (const p of selected[r]!) {
      // A token of the sequence sees the anchors, itself and what is older.
      queryIndex[row] = keyOffsets[r]! + anchors + p;
      crossLimits[row] = anchors + p + 1;
      selfLimits[row] = row - first + 1;
      sequenceIndex[s++] = row++;
    }
    for (let q = 0; q < learnable; ++q) {
      // A learnable query stands between sequence and globals: it sees the whole sequence and earlier learnable queries.
      queryIndex[row] = keys + q;
      crossLimits[row] = keyCount;
      selfLimits[row] = row - first + 1;
      sequenceIndex[s++] = row++;
    }
  }
  return { groupOffsets, keyOffsets, queryOffsets, queryIndex, crossLimits, selfLimits, sequenceIndex, sequenceOffsets };
}
