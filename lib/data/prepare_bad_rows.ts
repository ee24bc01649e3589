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
  /** Columns of the log that are to blame with the option that names each, and what they should hold. */
  readonly columns: readonly (readonly [column: string, option: string])[];
  readonly expected: string;
}

/** @param clock whether times decide the order @param history rule of the events that enter histories, which `noNumberSql` counts after those of labels */
export function faults({ columns }: PrepareOptions, clock: boolean, labels: readonly ColumnRule[], history: ColumnRule | undefined): Fault[] {
  const fault = (when: string, option: string, column: string, expected: string): Fault => ({ when, columns: [[column, option]], expected });
  return [
    fault('u IS NULL', 'columns.user', columns.user, 'a user'),
    fault('i IS NULL', 'columns.item', columns.item, 'an item'),
    ...(clock ? [fault('t IS NULL OR NOT isfinite(t)', 'columns.time', columns.time!, 'a number or a timestamp')] : []),
    ...(!clock && columns.seq !== undefined ? [fault('seq IS NULL OR isnan(seq)', 'columns.seq', columns.seq, 'a number')] : []),
    ...[...labels, ...(history ? [history] : [])].flatMap(({ rule, column, option }, i) => (rule.kind === 'value' ? [fault(`no_number = ${i}`, option, column!, 'a number')] : [])),
    ...(history?.rule.kind === 'value' ? [fault('past IS NULL', history.option, history.column!, 'a number')] : []),
    ...(labels.every(({ rule }) => rule.kind === 'value')
      ? [{ when: `coalesce(${labels.map(({ name }) => name).join(', ')}) IS NULL`, columns: labels.map(({ column, option }) => [column!, option] as const), expected: 'a number, which makes the label' }] : []),
  ];
}

/** The number of a row's fault, over raw; NULL for a good row. */
export const faultSql = (list: readonly Fault[]): string => `CASE ${list.map(({ when }, i) => `WHEN ${when} THEN ${i}`).join(' ')} END`;

/**
 * Counts the rows of raw that cannot be used.
 * @throws LongerError ERR_DATA for the first, with what its columns hold, unless bad rows are left out; and where no row can be used
 */
export async function countBadRows(connection: DuckDBConnection, { events, skipBad = false }: PrepareOptions, list: readonly Fault[], named: OptionNames): Promise<number> {
  const fault = faultSql(list);
  const [first] = await rows(connection, `SELECT count(*) AS n, (SELECT count(*) FROM raw) AS total, min(line) AS line, arg_min(${fault}, line) AS fault FROM raw WHERE (${fault}) IS NOT NULL`);
  const [count, total, line] = [first!['n'] as number, first!['total'] as number, first!['line'] as number];
  if (count === 0 || (skipBad && count < total)) return count;
  const { columns, expected } = list[first!['fault'] as number]!;
  const cells = columns.map(([column], i) => `CAST(${identifier(column)} AS VARCHAR) AS c${i}`);
  const [row] = await rows(connection, `SELECT * FROM (SELECT row_number() OVER () AS line, ${cells.join(', ')} FROM ${source(events)}) WHERE line = ${line}`);
  const said = columns.map(([column, option], i) => {
    const value = row![`c${i}`] as string | null;
    return `the column ${JSON.stringify(column)} (${named(option)}) ${value === null || value === '' ? 'is empty' : `has ${JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value)}`}`;
  });
  const remedy = count === total ? 'Look at what the columns hold' : `Mend ${count === 1 ? 'the row' : 'them'}, or leave ${count === 1 ? 'it' : 'them'} out (${named('skipBad')})`;
  const many = count === total ? '. No row can be used' : `. ${count} rows cannot be used`;
  throw new LongerError('ERR_DATA', `${said.join(', ')}; expected ${expected}${count === 1 && total > 1 ? '' : many}`, { place: `${events}, row ${line}`, remedy });
}
