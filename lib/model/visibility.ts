import { groupCount, type LongerConfig, queryCount } from './config.ts';

/**
 * Who sees whom (spec 2.3, docs/model.md): the one place that decides it. Rows are stored oldest first with the
 * user-side globals of `anchored` in front, so that what a row may see is always a prefix of its segment's rows: one
 * number a row, its limit. A request is one segment; with a banded window each of its two bands is one.
 */
export interface HistoryRows {
  /** Merged tokens that are computed now: i32 [R+1]. */
  readonly groupOffsets: Int32Array;
  /** Rows that give keys in the cross layer, anchors then merged tokens: i32 [R+1]. */
  readonly keyOffsets: Int32Array;
  /** Rows that ask, anchors then selected tokens; they are all keys of the later layers: i32 [R+1]. */
  readonly queryOffsets: Int32Array;
  /** Of each asking row that is computed now: its row among the keys (banded: among the merged tokens that are computed now), or (learnable queries) keys + number of the query. */
  readonly queryIndex: Int32Array;
  /** Of the segments, i32 [segments + 1]: asking rows that are computed now, and the keys of all in the cross layer and in the self layers. */
  readonly askOffsets: Int32Array;
  readonly crossOffsets: Int32Array;
  readonly selfOffsets: Int32Array;
  /** Key rows of the segments end to end, which overlap; null where segments are requests. */
  readonly crossIndex: Int32Array | null;
  /** Limits in the cross layer and in the self layers, counted from the segment's first key. */
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

/** The merged tokens of a request by their ordinals, `first` being the oldest that is kept. */
export interface Window {
  readonly first: number;
  readonly count: number;
}

/** Asking rows that stand together: ordinals, ascending. In the cross layer they see the merged tokens from `start` up to themselves. */
export interface Segment {
  readonly start: number;
  readonly asks: readonly number[];
}

/** Bands of a banded window: groups in each, and how far before its band a row sees. */
export function bands(config: LongerConfig): { readonly size: number; readonly before: number } {
  const size = Math.floor(queryCount(config) / 2);
  return { size, before: groupCount(config) - 2 * size };
}

export function segmentCount(config: LongerConfig): number {
  return config.window === 'banded' ? 2 : 1;
}

/**
 * The segments of a request, as many as segmentCount says. Banded: bands of half as many groups as may ask, counted from the oldest; the newest
 * two ask. Both bands and what they see are inside the window of any history that ends in the newer one, so nothing of a row depends on that end.
 */
export function segmentsOf(config: LongerConfig, { first, count }: Window): Segment[] {
  if (config.window !== 'banded') return [{ start: first, asks: selectQueries(config, count).map((p) => first + p) }];
  const { size, before } = bands(config);
  const end = first + count;
  const newest = Math.floor((end - 1) / size) * size;
  return [newest - size, newest].map((band) => {
    const start = Math.max(first, band - before);
    const from = Math.max(first, band);
    return { start, asks: count === 0 || band < 0 ? [] : Array.from({ length: Math.max(0, Math.min(end, band + size) - from) }, (_, i) => from + i) };
  });
}

/** The merged tokens of so many events from an ordinal on, which begins a group where they are counted from the oldest. */
export function windowOf({ alignment, merge }: LongerConfig, firstEvent: number, events: number): Window {
  return { first: alignment === 'oldest' ? Math.ceil(firstEvent / merge) : 0, count: Math.ceil(events / merge) };
}

/** What is known of a request already: merged tokens before the ordinal `from`, and the first so many asking rows of each segment. */
export interface Known {
  readonly from: number;
  readonly rows: readonly number[];
}

/** @param known default: nothing, all is computed now */
export function historyRows(config: LongerConfig, windows: readonly Window[], known?: readonly Known[]): HistoryRows {
  const anchors = anchorCount(config);
  const learnable = config.queries.kind === 'learnable' ? config.queries.k : 0;
  const banded = config.window === 'banded';
  const R = windows.length;
  const from = (r: number): number => known?.[r]!.from ?? windows[r]!.first;
  const segments = windows.map((w, r) => segmentsOf(config, w).map((s, i) => ({ ...s, fresh: s.asks.slice(known?.[r]!.rows[i] ?? 0) })));
  const total = (count: (s: { asks: readonly number[]; fresh: readonly number[] }) => number, more: number): Int32Array => running(segments.map((list) => more + list.reduce((n, s) => n + count(s), 0)));
  const groupOffsets = running(windows.map((w, r) => w.first + w.count - from(r)));
  const keyOffsets = running(windows.map((w) => anchors + w.count));
  const sequenceOffsets = total((s) => s.asks.length, learnable);
  const queryOffsets = total((s) => s.asks.length, anchors + learnable);
  const askOffsets = banded ? running(segments.flat().map((s) => s.fresh.length)) : total((s) => s.fresh.length, anchors + learnable);
  const selfOffsets = banded ? running(segments.flat().map((s) => s.asks.length)) : queryOffsets;
  const stretch = ({ start, asks, fresh }: { start: number; asks: readonly number[]; fresh: readonly number[] }): number => (fresh.length === 0 ? 0 : asks.at(-1)! + 1 - start);
  const crossOffsets = banded ? running(segments.flat().map(stretch)) : keyOffsets;
  const queries = askOffsets.at(-1)!;
  const keys = keyOffsets[R]!;
  const queryIndex = new Int32Array(queries);
  const crossLimits = new Int32Array(queries);
  const selfLimits = new Int32Array(queries);
  const sequenceIndex = new Int32Array(sequenceOffsets[R]!);
  const crossIndex = banded ? new Int32Array(crossOffsets.at(-1)!) : null;
  for (let r = 0, row = 0, s = 0, key = 0; r < R; ++r) {
    const keyCount = keyOffsets[r + 1]! - keyOffsets[r]!;
    const queryRows = queryOffsets[r + 1]! - queryOffsets[r]!;
    for (let a = 0; a < anchors; ++a, ++row) {
      // A user-side global sees all user-side rows.
      queryIndex[row] = keyOffsets[r]! + a;
      crossLimits[row] = keyCount;
      selfLimits[row] = queryRows;
    }
    const token = keyOffsets[r]! + anchors - windows[r]!.first; // plus its ordinal: the row of a merged token among the keys
    const source = banded ? groupOffsets[r]! - from(r) : token; // the same where it is taken from
    let place = anchors;
    for (const segment of segments[r]!) {
      const { start, asks, fresh } = segment;
      if (crossIndex) for (let i = 0; i < stretch(segment); ++i) crossIndex[key++] = token + start + i;
      fresh.forEach((ordinal, i) => {
        // A token of the sequence sees the anchors, itself and what is older.
        queryIndex[row] = source + ordinal;
        crossLimits[row] = anchors + ordinal - start + 1;
        selfLimits[row++] = anchors + asks.length - fresh.length + i + 1;
      });
      for (let i = 0; i < asks.length; ++i) sequenceIndex[s++] = queryOffsets[r]! + place++;
    }
    for (let q = 0; q < learnable; ++q) {
      // A learnable query stands between sequence and globals: it sees the whole sequence and earlier learnable queries.
      queryIndex[row] = keys + q;
      crossLimits[row] = keyCount;
      selfLimits[row++] = place + 1;
      sequenceIndex[s++] = queryOffsets[r]! + place++;
    }
  }
  return { groupOffsets, keyOffsets, queryOffsets, queryIndex, askOffsets, crossOffsets, selfOffsets, crossIndex, crossLimits, selfLimits, sequenceIndex, sequenceOffsets };
}

/** 0, and the running sums. */
export function running(counts: ArrayLike<number>): Int32Array {
  const offsets = new Int32Array(counts.length + 1);
  for (let i = 0; i < counts.length; ++i) offsets[i + 1] = offsets[i]! + counts[i]!;
  return offsets;
}
