import { running } from '../model/visibility.ts';
import type { EncodedCandidates } from '../schema/encode.ts';

/** Some candidates of a list, in the order given. */
export function pickCandidates(list: EncodedCandidates, places: ArrayLike<number>): EncodedCandidates {
  const n = Math.max(1, list.candidates);
  const { ids, offsets, numeric } = list.candidate;
  const picked = (column: Int32Array | Float32Array, from: (p: number) => number): number[] => Array.from(places, (p) => [...column.subarray(from(p), from(p + 1))]).flat();
  const rows = (column: Int32Array | Float32Array): number[] => picked(column, (p) => (p * column.length) / n);
  return {
    schema: list.schema,
    candidates: places.length,
    labels: Float32Array.from(rows(list.labels)),
    candidate: {
      ids: new Map([...ids].map(([name, column]) => {
        const o = offsets.get(name);
        return [name, Int32Array.from(o ? picked(column, (p) => o[p]!) : rows(column))];
      })),
      offsets: new Map([...offsets].map(([name, o]) => [name, running(Array.from(places, (p) => o[p + 1]! - o[p]!))])),
      numeric: Float32Array.from(rows(numeric)),
    },
  };
}

/** Candidates `from` to `to` of a list. */
export function sliceCandidates(list: EncodedCandidates, from: number, to: number): EncodedCandidates {
  if (from === 0 && to === list.candidates) return list;
  const n = list.candidates;
  const { ids, offsets, numeric } = list.candidate;
  const width = n === 0 ? 0 : numeric.length / n;
  const tasks = n === 0 ? 0 : list.labels.length / n;
  const cutOffsets = new Map([...offsets].map(([name, o]) => [name, o.subarray(from, to + 1).map((x) => x - o[from]!)]));
  return {
    schema: list.schema,
    candidates: to - from,
    labels: list.labels.subarray(from * tasks, to * tasks),
    candidate: {
      ids: new Map([...ids].map(([name, column]) => {
        const o = offsets.get(name);
        return [name, o ? column.subarray(o[from]!, o[to]!) : column.subarray(from, to)];
      })),
      offsets: cutOffsets,
      numeric: numeric.subarray(from * width, to * width),
    },
  };
}
