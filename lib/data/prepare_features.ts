import type { DuckDBConnection } from '@duckdb/node-api';
import { LongerError } from '../errors.ts';
import type { Feature } from '../schema/features.ts';
import type { TableSpec } from '../schema/schema.ts';
import { createCodes, identifier, literal, type TokenColumn } from './prepare_sql.ts';

/** How a text column becomes numbers. `name` is the feature, `codes` the vocabulary table of a category or set. */
export type Encoding =
  | { readonly kind: 'category' | 'set'; readonly name: string; readonly codes: string; readonly size: number }
  | { readonly kind: 'number'; readonly name: string; readonly mean: number; readonly std: number }
  | { readonly kind: 'bucket'; readonly name: string; readonly boundaries: readonly number[] };

/** Between the members of a multi-valued cell. */
export const setSeparator = '|';
/** Numeric columns with at most this many different values are categories. */
const categoryLimit = 64;

export async function rows(connection: DuckDBConnection, sql: string): Promise<Record<string, unknown>[]> {
  const reader = await connection.runAndReadAll(sql);
  return reader.getRowObjectsJS().map((row) => Object.fromEntries(Object.entries(row).map(([k, v]) => [k, typeof v === 'bigint' ? Number(v) : v])));
}

/**
 * Chooses the encoding of a text column from its values: cells with `|` make a set, more than 64 different numbers a
 * number, anything else a category; null for free text (over half of the cells different) unless it was asked for.
 * @param relation SQL relation that holds the column.
 */
export async function profile(
  connection: DuckDBConnection, relation: string, column: string, name: string, codes: string, asked: boolean,
): Promise<Encoding | null> {
  const c = identifier(column);
  const [p] = await rows(connection, `SELECT count(${c}) AS filled, count(DISTINCT ${c}) AS kinds, count(TRY_CAST(${c} AS DOUBLE)) AS numbers,
    count(*) FILTER (contains(${c}, '${setSeparator}')) AS sets, avg(v) AS mean, stddev_pop(v) AS std
    FROM (SELECT ${c}, CASE WHEN isfinite(TRY_CAST(${c} AS DOUBLE)) THEN TRY_CAST(${c} AS DOUBLE) END AS v FROM ${relation})`);
  const { filled, kinds, numbers, sets, mean, std } = p as Record<string, number>;
  if (filled === 0) return null;
  if (numbers === filled && kinds! > categoryLimit) return { kind: 'number', name, mean: mean!, std: std! > 0 ? std! : 1 };
  const set = sets! > filled! * 0.05;
  if (!set && !asked && kinds! > Math.max(categoryLimit, filled! / 2)) return null;
  const keys = set
    ? `SELECT DISTINCT unnest(string_split(${c}, '${setSeparator}')) AS key FROM ${relation}`
    : `SELECT DISTINCT ${c} AS key FROM ${relation} WHERE ${c} IS NOT NULL`;
  await connection.run(createCodes(codes, set ? `SELECT key FROM (${keys}) WHERE key <> ''` : keys, 'TRY_CAST(key AS DOUBLE), key'));
  return { kind: set ? 'set' : 'category', name, codes, size: await tableSize(connection, codes) };
}

/** Distinct codes plus the one of the unknown. */
export async function tableSize(connection: DuckDBConnection, codes: string): Promise<number> {
  const [row] = await rows(connection, `SELECT count(*) + 1 AS size FROM ${identifier(codes)}`);
  return row!['size'] as number;
}

/** A numeric column of the log: a category of few values, else 16 buckets by quantiles of the training part. */
export async function profileValue(connection: DuckDBConnection, relation: string, column: string, name: string, codes: string): Promise<Encoding> {
  const c = identifier(column);
  const [p] = await rows(connection, `SELECT count(DISTINCT ${c}) AS kinds FROM ${relation}`);
  if ((p!['kinds'] as number) <= categoryLimit) {
    await connection.run(createCodes(codes, `SELECT DISTINCT CAST(${c} AS VARCHAR) AS key FROM ${relation} WHERE ${c} IS NOT NULL`, 'CAST(key AS DOUBLE)'));
    return { kind: 'category', name, codes, size: await tableSize(connection, codes) };
  }
  const shares = Array.from({ length: 15 }, (_, i) => (i + 1) / 16);
  const found = await rows(connection, shares.map((q) => `SELECT quantile_disc(${c}, ${q}) AS b FROM ${relation}`).join(' UNION '));
  const boundaries = found.map((r) => r['b'] as number).filter((b) => Number.isFinite(b)).sort((a, b) => a - b);
  return { kind: 'bucket', name, boundaries };
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
      return { sql: `CASE WHEN ${x} IS NULL THEN 0 ELSE 1 ${e.boundaries.map((b) => `+ CAST(${x} >= ${b} AS INTEGER)`).join(' ')} END`, join: '' };
    case 'category':
      return { sql: `coalesce(${alias}.code, 0)`, join: `LEFT JOIN ${identifier(e.codes)} ${alias} ON ${alias}.key = CAST(${x} AS VARCHAR)` };
    case 'set':
      return {
        sql: `coalesce(${alias}.codes, CAST([] AS INTEGER[]))`,
        join: `LEFT JOIN (SELECT m.cell, list(c.code ORDER BY c.code) AS codes FROM (
            SELECT DISTINCT cell, unnest(string_split(cell, '${setSeparator}')) AS member FROM (SELECT DISTINCT ${identifier(column)} AS cell FROM ${relation})) m
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
  const name = e.kind === 'bucket' ? `event_${e.name}` : tableName(e.codes);
  const size = e.kind === 'bucket' ? e.boundaries.length + 2 : e.size;
  return {
    feature: e.kind === 'set' ? { type: 'ids', table: name, pooling: 'mean' } : { type: 'id', table: name },
    table: [name, { size, width: size <= 256 ? 8 : 16 }],
  };
}
