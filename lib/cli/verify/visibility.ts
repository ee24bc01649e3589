import { packBatch } from '../../data/batch.ts';
import { historyForm, type LongerConfig } from '../../model/config.ts';
import type { ModelDescription } from '../../model/model.ts';
import { anchorCount } from '../../model/visibility.ts';
import type { NumericArray } from '../../native/types.ts';
import type { EncodedRequest } from '../../schema/encode.ts';

/** A row of one request's history side; places count from the oldest. */
export type Row = { readonly kind: 'global' | 'token' | 'query'; readonly place: number };

/** Rows of one request as the model lays them out, and which of them its limits let each asking row see. */
export interface Rows {
  readonly config: LongerConfig;
  readonly groups: number;
  /** Ordinal of the oldest group, where groups are counted from the oldest event. */
  readonly first: number;
  readonly keys: readonly Row[];
  readonly asking: readonly Row[];
  /** By asking row: rows of `keys` in the cross layer, rows of `asking` in the self layers. */
  readonly cross: readonly ReadonlySet<number>[];
  readonly self: readonly ReadonlySet<number>[];
}

export function rowsOfRequest(model: ModelDescription, request: EncodedRequest): Rows {
  const c = model.config as LongerConfig;
  const batch = packBatch(model.schema, [request], historyForm(c));
  const { arrays, sizes } = model.historyInputs(batch);
  const anchors = anchorCount(c);
  const groups = sizes['groups']!;
  const keys: Row[] = [
    ...Array.from({ length: anchors }, (_, place) => ({ kind: 'global', place }) as const),
    ...Array.from({ length: groups }, (_, place) => ({ kind: 'token', place }) as const),
  ];
  const asking = Array.from(arrays.get('query.index')!, (i): Row => keys[i] ?? { kind: 'query', place: i - keys.length });
  const segments = arrays.get('ask.offsets')!;
  const seen = (offsets: NumericArray, limits: NumericArray, index?: NumericArray): Set<number>[] =>
    asking.map((_, i) => {
      const s = segments.findIndex((_, j) => i < segments[j + 1]!);
      return new Set(Array.from({ length: Math.min(limits[i]!, offsets[s + 1]! - offsets[s]!) }, (_, j) => (index ? index[offsets[s]! + j]! : offsets[s]! + j)));
    });
  return {
    config: c, groups, first: c.alignment === 'oldest' ? Math.ceil(batch.firstEvents[0]! / c.merge) : 0, keys, asking,
    cross: seen(arrays.get('cross.offsets')!, arrays.get('cross.limits')!, arrays.get('cross.index')),
    self: seen(arrays.get('self.offsets')!, arrays.get('self.limits')!),
  };
}

/** The place of the group that event `e` of a history without a past is in; groups that are not kept have negative ones. */
export function groupOf({ config, groups, first }: Rows, events: number, e: number): number {
  return config.alignment === 'oldest' ? Math.floor(e / config.merge) - first : groups - 1 - Math.floor((events - 1 - e) / config.merge);
}

/** Groups in a band: half of those that may ask. */
export function bandSize({ maxHistory, merge, queries }: LongerConfig): number {
  const most = Math.floor(maxHistory / merge);
  return Math.floor((queries.kind === 'recent' ? Math.min(queries.k, most) : most) / 2);
}

/**
 * The rule of spec 2.3 and 4.1, written down pair by pair and apart from the code that the model takes its limits from: a user-side global sees all of
 * the user's side, a token the globals and what is not newer, a learnable query the globals, every token and the learnable
 * queries up to itself. In a banded window a token sees, of the tokens, its own band; in the cross layer also as many before it as two bands leave of the history.
 */
export function maySee({ config: c, first }: Rows, layer: number, row: Row, other: Row): boolean {
  if (row.kind === 'global' || other.kind === 'global') return true;
  if (row.kind === 'query') return other.kind === 'token' || other.place <= row.place;
  if (other.kind !== 'token' || other.place > row.place) return false;
  if (c.window !== 'banded') return true;
  const size = bandSize(c);
  const band = Math.floor((first + row.place) / size) * size;
  return first + other.place >= band - (layer === 0 ? Math.floor(c.maxHistory / c.merge) - 2 * size : 0);
}

/** Asking rows that see others than the rule lets them see, once a kind of layer. */
export function wrongLimits(rows: Rows): number {
  const wrong = (others: readonly Row[], seen: readonly ReadonlySet<number>[], layer: number): number =>
    rows.asking.filter((row, i) => !others.every((other, j) => maySee(rows, layer, row, other) === seen[i]!.has(j))).length;
  return wrong(rows.keys, rows.cross, 0) + wrong(rows.asking, rows.self, 1);
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
      others.forEach((other, j) => { if (maySee(rows, layer, row, other)) before[j]!.forEach((x, g) => { if (x) sum[g] = true; }); });
      return sum;
    }));
  }
  return stages;
}
