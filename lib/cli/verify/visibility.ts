import type { LongerConfig } from '../../model/config.ts';
import type { ModelDescription } from '../../model/model.ts';
import { anchorCount } from '../../model/visibility.ts';
import type { EncodedRequest } from '../../schema/encode.ts';
import { packBatch } from '../../data/batch.ts';

/** A row of one request's history side; places count from the oldest. */
export type Row = { readonly kind: 'global' | 'token' | 'query'; readonly place: number };

/** Rows and limits of one request as the model lays them out. */
export interface Rows {
  readonly groups: number;
  readonly keys: readonly Row[];
  readonly asking: readonly Row[];
  readonly crossLimits: Int32Array;
  readonly selfLimits: Int32Array;
}

export function rowsOfRequest(model: ModelDescription, request: EncodedRequest): Rows {
  const c = model.config as LongerConfig;
  const { arrays, sizes } = model.historyInputs(packBatch(model.schema, [request], c));
  const anchors = anchorCount(c);
  const groups = sizes['groups']!;
  const keys: Row[] = [
    ...Array.from({ length: anchors }, (_, place) => ({ kind: 'global', place }) as const),
    ...Array.from({ length: groups }, (_, place) => ({ kind: 'token', place }) as const),
  ];
  const asking = Array.from(arrays.get('query.index')!, (i): Row => keys[i] ?? { kind: 'query', place: i - keys.length });
  return { groups, keys, asking, crossLimits: arrays.get('cross.limits') as Int32Array, selfLimits: arrays.get('self.limits') as Int32Array };
}

/**
 * The rule of spec 2.3 and 4.1, written down pair by pair and apart from the code that the model takes its limits from: a user-side global sees all of
 * the user's side, a token the globals and what is not newer, a learnable query the globals, every token and the learnable
 * queries up to itself.
 */
export function maySee(row: Row, other: Row): boolean {
  if (row.kind === 'global' || other.kind === 'global') return true;
  if (row.kind === 'token') return other.kind === 'token' && other.place <= row.place;
  return other.kind === 'token' || other.place <= row.place;
}

/** Asking rows whose limit is not the number of rows that the rule lets them see, or whose visible rows are no prefix. */
export function wrongLimits(rows: Rows): number {
  const wrong = (others: readonly Row[], limits: Int32Array): number =>
    rows.asking.filter((row, i) => !others.every((other, j) => maySee(row, other) === j < limits[i]!) || limits[i]! > others.length).length;
  return wrong(rows.keys, rows.crossLimits) + wrong(rows.asking, rows.selfLimits);
}

/**
 * Which groups of events each row may depend on, after 0, 1, ... attention layers: [stage][row][group]. Stage 0 has the key
 * rows, the others the asking rows. A row depends on what the rows that it sees depend on.
 */
export function dependencies(rows: Rows, layers: number): boolean[][][] {
  const none = (): boolean[] => new Array<boolean>(rows.groups).fill(false);
  const first = rows.keys.map((k) => none().map((_, g) => k.kind === 'token' && k.place === g));
  const stages = [first];
  for (let layer = 0; layer < layers; ++layer) {
    const before = stages[layer]!;
    const others = layer === 0 ? rows.keys : rows.asking;
    stages.push(rows.asking.map((row) => {
      const sum = none();
      others.forEach((other, j) => { if (maySee(row, other)) before[j]!.forEach((x, g) => { if (x) sum[g] = true; }); });
      return sum;
    }));
  }
  return stages;
}
