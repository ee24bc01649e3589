import type { DuckDBConnection } from '@duckdb/node-api';
import { LongerError } from '../errors.ts';
import { nearest } from '../schema/suggest.ts';
import { bracketed, isList, membersSql } from './cell_lists.ts';
import { rows } from './prepare_features.ts';
import type { OptionNames, ReadAs } from './prepare_options.ts';
import { identifier } from './prepare_sql.ts';

/** Numeric columns with at most this many different values are ids. */
export const fewValues = 64;
/** What whole numbers are called that name something. */
const idName = /(^|[^a-zA-Z])(id|code|zip|zipcode)$|[a-z](Id|ID|Code)$/i;

export const readAsForms = 'id, ids, ids:SEPARATOR, number, buckets or none';
export const isReadAs = (text: unknown): text is ReadAs => typeof text === 'string' && /^(id|number|buckets|none|ids(:.+)?)$/s.test(text);

/** What a table can say of its columns. */
export interface Readable {
  readonly table: 'users' | 'items' | 'events';
  readonly columns: readonly string[];
}

/**
 * What was asked of each column, by `table.column`.
 * @throws LongerError ERR_CONFIG for a column that is in no table or in two of them
 */
export function askedOf(asked: Readonly<Record<string, ReadAs>>, tables: readonly Readable[], named: OptionNames): ReadonlyMap<string, ReadAs> {
  const all = tables.flatMap(({ table, columns }) => columns.map((column) => `${table}.${column}`));
  return new Map(Object.entries(asked).map(([name, as]) => {
    const found = all.filter((full) => full === name || full.slice(full.indexOf('.') + 1) === name);
    const exact = found.includes(name) ? [name] : found;
    if (exact.length === 1) return [exact[0]!, as];
    const guess = nearest(name, [...all, ...all.map((full) => full.slice(full.indexOf('.') + 1))]);
    throw new LongerError('ERR_CONFIG', exact.length > 1 ? `${exact.length} tables have a column of this name` : `no side table or event feature has this column${guess === undefined ? '' : `; did you mean ${JSON.stringify(guess)}?`}`, {
      place: named(`readAs.${name}`), remedy: exact.length > 1 ? `Say which: ${exact.join(' or ')}` : `Columns are ${all.join(', ') || 'none: name side tables or event features'}`,
    });
  }));
}

/**
 * How a column of text is read where nothing was asked: lists are ids; whole numbers called an id or a code are one; more than 64 different numbers are a
 * number; anything else is an id. Null for free text (over half of the cells different).
 * @param relation SQL relation that holds the column @param type of the column in its file
 */
export async function readAsOf(connection: DuckDBConnection, relation: string, column: string, name: string, type: string): Promise<ReadAs | null> {
  if (isList(type)) return 'ids';
  const c = identifier(column);
  const having = (condition: string): string => `count(*) FILTER (${condition})`;
  const [p] = (await rows(connection, `SELECT count(${c}) AS filled, count(DISTINCT ${c}) AS kinds, count(TRY_CAST(${c} AS DOUBLE)) AS numbers,
    ${having(`regexp_full_match(${c}, '-?[0-9]+([.]0+)?')`)} AS whole, ${having(`regexp_full_match(${c}, '\\s*\\[.*\\]\\s*', 's')`)} AS brackets,
    ${having(`contains(${c}, '|')`)} AS bars, ${having(`contains(${c}, ',')`)} AS commas, ${having(`contains(${c}, ';')`)} AS semicolons,
    ${having(`regexp_full_match(${c}, '-?[0-9]{1,3}(,[0-9]{3})+([.][0-9]+)?')`)} AS thousands
    FROM ${relation}`)) as readonly Record<string, number>[];
  const { filled, kinds, numbers, whole, brackets, bars, commas, semicolons, thousands } = p as Record<'filled' | 'kinds' | 'numbers' | 'whole' | 'brackets' | 'bars' | 'commas' | 'semicolons' | 'thousands', number>;
  if (filled === 0) return null;
  if (numbers === filled && kinds > fewValues) return whole === filled && idName.test(name) ? 'id' : 'number';
  const many = filled * 0.05;
  if (brackets > 0.95 * filled) return `ids:${bracketed}`;
  if (bars > many) return 'ids';
  for (const [separator, cells] of [[';', semicolons], [',', commas - thousands]] as const)
    if (cells > many && (await fewMembers(connection, relation, c, separator, Math.min(kinds - 1, filled / 5)))) return `ids:${separator}`;
  return kinds > Math.max(fewValues, filled / 2) ? null : 'id';
}

/** Whether what stands between separators are names that come again and again, and no parts of sentences, ranges or numbers. */
async function fewMembers(connection: DuckDBConnection, relation: string, c: string, separator: string, most: number): Promise<boolean> {
  const [found] = await rows(connection, `SELECT count(DISTINCT member) AS kinds, coalesce(max(len(member)), 0) AS longest FROM (SELECT unnest(${membersSql(c, separator)}) AS member FROM ${relation})`);
  return (found!['kinds'] as number) <= most && (found!['longest'] as number) <= 40;
}
