import type { DuckDBConnection } from '@duckdb/node-api';
import { LongerError } from '../errors.ts';
import type { Feature } from '../schema/features.ts';
import type { TableSpec } from '../schema/schema.ts';
import { membersSql, separatorOf } from './cell_lists.ts';
import type { ReadAs } from './prepare_options.ts';
import { createCodes, identifier, literal, type TokenColumn } from './prepare_sql.ts';

/** How a text column becomes numbers. `name` is the feature, `codes` the vocabulary table of a category or set, or the name of buckets. */
export type Encoding =
  | { readonly kind: 'category'; readonly name: string; readonly codes: string; readonly size: number }
  | { readonly kind: 'set'; readonly name: string; readonly codes: string; readonly size: number; readonly separator: string }
  | { readonly kind: 'number'; readonly name: string; readonly mean: number; readonly std: number }
  | { readonly kind: 'bucket'; readonly name: string; readonly codes: string; readonly boundaries: readonly number[] };

export async function rows(connection: DuckDBConnection, sql: string): Promise<Record<string, unknown>[]> {
  const reader = await connection.runAndReadAll(sql);
  return reader.getRowObjectsJS().map((row) => Object.fromEntries(Object.entries(row).map(([k, v]) => [k, typeof v === 'bigint' ? Number(v) : v])));
}

/**
 * What a column holds, read in a way; null where it holds nothing.
 * @param relation SQL relation that holds the column @param codes name of its vocabulary or table of buckets
 * @throws LongerError ERR_DATA for a text where numbers are asked for
 */
export async function profile(connection: DuckDBConnection, relation: string, column: string, name: string, codes: string, as: ReadAs, type: string, place: string): Promise<Encoding | null> {
  const c = identifier(column);
  if (as === 'number' || as === 'buckets') {
    const [p] = await rows(connection, `SELECT count(${c}) AS filled, min(CAST(${c} AS VARCHAR)) FILTER (TRY_CAST(${c} AS DOUBLE) IS NULL) AS text, avg(v) AS mean, stddev_pop(v) AS std
      FROM (SELECT ${c}, CASE WHEN isfinite(TRY_CAST(${c} AS DOUBLE)) THEN TRY_CAST(${c} AS DOUBLE) END AS v FROM ${relation})`);
    const { filled, text, mean, std } = p as { filled: number; text: string | null; mean: number | null; std: number | null };
    if (text !== null) throw new LongerError('ERR_DATA', `expected a number, got ${JSON.stringify(text.slice(0, 60))}`, { place, remedy: 'Mend the column, or read it as an id' });
    if (filled === 0) return null;
    return as === 'number' ? { kind: 'number', name, mean: mean ?? 0, std: std !== null && std > 0 ? std : 1 } : { kind: 'bucket', name, codes, boundaries: await quantiles(connection, relation, c) };
  }
  const separator = as === 'id' ? null : separatorOf(as, type);
  const keys = separator === null
    ? `SELECT DISTINCT CAST(${c} AS VARCHAR) AS key FROM ${relation} WHERE ${c} IS NOT NULL`
    : `SELECT DISTINCT unnest(${membersSql(c, separator)}) AS key FROM ${relation}`;
  await connection.run(createCodes(codes, keys, 'TRY_CAST(key AS DOUBLE), key'));
  const size = await tableSize(connection, codes);
  if (size === 1) return null;
  return separator === null ? { kind: 'category', name, codes, size } : { kind: 'set', name, codes, size, separator };
}

/** 15 boundaries between 16 parts of as many rows, fewer where they are equal. */
async function quantiles(connection: DuckDBConnection, relation: string, c: string): Promise<number[]> {
  const shares = Array.from({ length: 15 }, (_, i) => (i + 1) / 16);
  const found = await rows(connection, shares.map((q) => `SELECT quantile_disc(TRY_CAST(${c} AS DOUBLE), ${q}) AS b FROM ${relation}`).join(' UNION '));
  return found.map((r) => r['b'] as number).filter((b) => Number.isFinite(b)).sort((a, b) => a - b);
}

/** Distinct codes plus the one of the unknown. */
export async function tableSize(connection: DuckDBConnection, codes: string): Promise<number> {
  const [row] = await rows(connection, `SELECT count(*) + 1 AS size FROM ${identifier(codes)}`);
  return row!['size'] as number;
}

/**
 * Materialises the encoded columns of a side table: `target`(key, <column> ...), categories as codes (0 missing), sets as
 * lists of codes, numbers as they are (the mean where missing).
 */
export async function encodeSide(
  connection: DuckDBConnection, relation: string, key: string, target: string, encodings: readonly (readonly [string, Encoding])[],
): Promise<void> {
  const [twice] = await rows(connection, `SELECT ${identifier(key)} AS key FROM ${relation} GROUP BY 1 HAVING count(*) > 1 LIMIT 1`);
  if (twice !== undefined) throw new LongerError('ERR_DATA', `${literal(String(twice['key']))} stands more than once in the side table`, { place: `column ${key}` });
  const encoded = encodings.map(([column, e], i) => encode('s', column, relation, e, `v${i}`));
  await connection.run(`CREATE TABLE ${identifier(target)} AS SELECT CAST(s.${identifier(key)} AS VARCHAR) AS key
    ${encoded.map((c, i) => `, ${c.sql} AS ${identifier(encodings[i]![0])}`).join('')}
    FROM ${relation} s ${encoded.map((c) => c.join).join(' ')}`);
}

/** SQL that encodes the column `x` of a row `alias.column` of `relation` (text, or a number for buckets), with the join it needs. */
export function encode(row: string, column: string, relation: string, e: Encoding, alias: string): { readonly sql: string; readonly join: string } {
  const x = `${row}.${identifier(column)}`;
  switch (e.kind) {
    case 'number':
      return { sql: `CAST(coalesce(TRY_CAST(${x} AS DOUBLE), ${e.mean}) AS FLOAT)`, join: '' };
    case 'bucket':
      return { sql: `CASE WHEN ${x} IS NULL THEN 0 ELSE 1 ${e.boundaries.map((b) => `+ CAST(TRY_CAST(${x} AS DOUBLE) >= ${b} AS INTEGER)`).join(' ')} END`, join: '' };
    case 'category':
      return { sql: `coalesce(${alias}.code, 0)`, join: `LEFT JOIN ${identifier(e.codes)} ${alias} ON ${alias}.key = CAST(${x} AS VARCHAR)` };
    case 'set':
      return {
        sql: `coalesce(${alias}.codes, CAST([] AS INTEGER[]))`,
        join: `LEFT JOIN (SELECT m.cell, list(c.code ORDER BY c.code) AS codes FROM (
            SELECT DISTINCT cell, unnest(${membersSql('cell', e.separator)}) AS member FROM (SELECT DISTINCT ${identifier(column)} AS cell FROM ${relation})) m
          JOIN ${identifier(e.codes)} c ON m.member = c.key GROUP BY m.cell) ${alias} ON ${alias}.cell = ${x}`,
      };
  }
}

/** Value for a row that the side table lacks. */
export function missingSql(e: Encoding): string {
  if (e.kind === 'number') return `CAST(${e.mean} AS FLOAT)`;
  return e.kind === 'set' ? 'CAST([] AS INTEGER[])' : '0';
}

/** The encoded side column through a LEFT JOIN under `alias`. */
export function joined(alias: string, column: string, e: Encoding): TokenColumn {
  return { name: e.name, sql: `coalesce(${alias}.${identifier(column)}, ${missingSql(e)})` };
}

/** Name of an embedding table, and of its vocabulary in vocabulary.json. */
export const tableName = (codes: string): string => codes.replace(/^codes_/, '');

/** The feature as schema.json describes it, and the embedding table it needs. */
export function describe(e: Encoding): { readonly feature: Feature; readonly table: readonly [string, TableSpec] | null } {
  if (e.kind === 'number') return { feature: { type: 'numeric', mean: e.mean, std: e.std }, table: null };
  const name = tableName(e.codes);
  const size = e.kind === 'bucket' ? e.boundaries.length + 2 : e.size;
  return {
    feature: e.kind === 'set' ? { type: 'ids', table: name, pooling: 'mean' } : { type: 'id', table: name },
    table: [name, { size, width: size <= 256 ? 8 : 16 }],
  };
}
