import type { EncodedCandidates } from '../schema/encode.ts';

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
