import type { Hash } from 'node:crypto';
import type { TimeUnit } from './prepare_options.ts';
import { type Encoding, tableName } from './prepare_features.ts';

/** How a cell of a log or side table becomes a feature. `table` names a vocabulary: codes 1, 2, …, 0 for what it lacks. */
export type CellEncoding = { readonly column: string; readonly feature: string } & (
  | { readonly kind: 'category'; readonly table: string }
  /** `separator` stands between the values of a cell (cell_lists.ts); files of before have none, and meant `|`. */
  | { readonly kind: 'set'; readonly table: string; readonly separator?: string }
  | { readonly kind: 'number'; readonly mean: number }
  | { readonly kind: 'bucket'; readonly boundaries: readonly number[] }
);

/** catalog.json: the log's columns, and how each becomes a feature. */
export interface CatalogFile {
  readonly version: 1;
  /** Columns of the log; time is null where it has an order only. */
  readonly columns: { readonly user: string; readonly item: string; readonly time: string | null };
  /** What numbers in times count. */
  readonly timeUnit: TimeUnit;
  /** Columns of the side tables. */
  readonly user: readonly CellEncoding[];
  readonly item: readonly CellEncoding[];
  /** More columns of the log's events. */
  readonly event: readonly CellEncoding[];
}

/** Whether a value that was read has the form of the file. */
export function isCatalogFile(value: unknown): value is CatalogFile {
  const { version, columns, timeUnit, ...sides } = Object(value) as Partial<CatalogFile>;
  const { user, item, time } = Object(columns) as Partial<CatalogFile['columns']>;
  return version === 1 && typeof user === 'string' && typeof item === 'string' && (time === null || typeof time === 'string') && typeof timeUnit === 'string'
    && [sides.user, sides.item, sides.event].every((list) => Array.isArray(list));
}

/** Whether a value that was read has the form of vocabulary.json: lists of keys by table. */
export const isVocabulary = (value: unknown): value is Record<string, string[]> =>
  typeof value === 'object' && value !== null && Object.values(value).every((keys) => Array.isArray(keys) && keys.every((key) => typeof key === 'string'));

/** The fingerprint of a catalog, from the SHA-256 of catalog.json, a zero byte and vocabulary.json, which decide what every code means. */
export const shortened = (hash: Hash): string => hash.digest('hex').slice(0, 32);

/** The encoding of a column as the file has it. */
export function cellEncoding(column: string, e: Encoding): CellEncoding {
  const at = { column, feature: e.name };
  if (e.kind === 'number') return { ...at, kind: e.kind, mean: e.mean };
  if (e.kind === 'bucket') return { ...at, kind: e.kind, boundaries: e.boundaries };
  return e.kind === 'set' ? { ...at, kind: e.kind, table: tableName(e.codes), separator: e.separator } : { ...at, kind: e.kind, table: tableName(e.codes) };
}
