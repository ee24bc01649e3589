import type { DuckDBConnection } from '@duckdb/node-api';
import { LongerError } from '../errors.ts';
import type { ColumnRule } from './prepare_labels.ts';
import { rows } from './prepare_features.ts';
import type { OptionNames, PrepareOptions } from './prepare_options.ts';
import { identifier, source } from './prepare_sql.ts';

/** Why a row of raw cannot be used. */
interface Fault {
  /** SQL over raw. */
  readonly when: string;
  /** Columns of the log that are to blame, and what they should hold. */
  readonly columns: readonly string[];
  readonly expected: string;
}

/** @param clock whether times decide the order @param rules of labels, then of histories, as `noNumberSql` counts them */
export function faults({ columns }: PrepareOptions, clock: boolean, labels: readonly ColumnRule[], history: ColumnRule | undefined): Fault[] {
  const rules = history ? [...labels, history] : labels;
  return [
    { when: 'u IS NULL', columns: [columns.user], expected: 'a user' },
    { when: 'i IS NULL', columns: [columns.item], expected: 'an item' },
    ...(clock ? [{ when: 't IS NULL OR NOT isfinite(t)', columns: [columns.time!], expected: 'a number or a timestamp' }] : []),
    ...(!clock && columns.seq !== undefined ? [{ when: 'seq IS NULL OR isnan(seq)', columns: [columns.seq], expected: 'a number' }] : []),
    ...rules.flatMap(({ rule, column }, i) => (rule.kind === 'value' ? [{ when: `no_number = ${i}`, columns: [column!], expected: 'a number' }] : [])),
    ...(history?.rule.kind === 'value' ? [{ when: 'past IS NULL', columns: [history.column!], expected: 'a number' }] : []),
    ...(labels.every(({ rule }) => rule.kind === 'value') ? [{ when: `coalesce(${labels.map(({ name }) => name).join(', ')}) IS NULL`, columns: [...new Set(labels.map(({ column }) => column!))], expected: 'a number, which makes the label' }] : []),
  ];
}

/** The number of a row's fault, over raw; NULL for a good row. */
export const faultSql = (list: readonly Fault[]): string => `CASE ${list.map(({ when }, i) => `WHEN ${when} THEN ${i}`).join(' ')} END`;

/**
 * Counts the rows of raw that cannot be used.
 * @throws LongerError ERR_DATA for the first, with what its column holds, unless bad rows are left out
 */
export async function countBadRows(connection: DuckDBConnection, { events, skipBad = false }: PrepareOptions, list: readonly Fault[], named: OptionNames): Promise<number> {
  const fault = faultSql(list);
  const [first] = await rows(connection, `SELECT count(*) AS n, min(line) AS line, arg_min(${fault}, line) AS fault FROM raw WHERE (${fault}) IS NOT NULL`);
  const [count, line] = [first!['n'] as number, first!['line'] as number];
  if (count === 0 || skipBad) return count;
  const { columns, expected } = list[first!['fault'] as number]!;
  const cells = columns.map((c, i) => `CAST(${identifier(c)} AS VARCHAR) AS c${i}`);
  const [row] = await rows(connection, `SELECT * FROM (SELECT row_number() OVER () AS line, ${cells.join(', ')} FROM ${source(events)}) WHERE line = ${line}`);
  const said = columns.map((column, i) => {
    const value = row![`c${i}`] as string | null;
    return `the column ${JSON.stringify(column)} ${value === null || value === '' ? 'is empty' : `has ${JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value)}`}`;
  });
  throw new LongerError('ERR_DATA', `${said.join(', ')}; expected ${expected}${count === 1 ? '' : `. ${count} rows cannot be used`}`, {
    place: `${events}, row ${line}`, remedy: count === 1 ? `Mend the row, or leave it out (${named('skipBad')})` : `Mend them, or leave them out (${named('skipBad')})`,
  });
}
