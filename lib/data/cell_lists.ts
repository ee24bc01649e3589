import type { ReadAs } from './prepare_options.ts';
import { literal } from './prepare_sql.ts';

/** Between the values of a cell whose column is a list in its file (Parquet). */
export const listSeparator = '\u001f';
/** Separator of cells that are written as lists, as pandas and Python do: `['Drama', 'War']`. */
export const bracketed = '[]';

/** The separator of `ids`; of a column that is a list in its file there is none to say. */
export function separatorOf(as: ReadAs, type: string): string {
  return as.startsWith('ids:') ? as.slice(4) : isList(type) ? listSeparator : '|';
}

/** The values of a cell, spaces around them left out, as `membersSql` has them. */
export function membersOf(cell: string, separator: string): string[] {
  if (separator === bracketed) return cell.replace(/^[[ ]+|[\] ]+$/g, '').split(',').map((m) => m.replace(/^[ '"]+|[ '"]+$/g, '')).filter((m) => m !== '');
  return cell.split(separator).map((m) => m.replace(/^ +| +$/g, '')).filter((m) => m !== '');
}

/** SQL for the same, a list of texts; empty for NULL. */
export function membersSql(cell: string, separator: string): string {
  const members = separator === bracketed
    ? `list_transform(string_split(rtrim(ltrim(${cell}, '[ '), '] '), ','), lambda m: trim(m, ' ''"'))`
    : `list_transform(string_split(${cell}, ${literal(separator)}), lambda m: trim(m, ' '))`;
  return `coalesce(list_filter(${members}, lambda m: m <> ''), CAST([] AS VARCHAR[]))`;
}

/** A column as text: of a list its values, separated. NULL where it is empty. */
export function textSql(column: string, type: string): string {
  return isList(type) ? `nullif(array_to_string(CAST(${column} AS VARCHAR[]), ${literal(listSeparator)}), '')` : `nullif(CAST(${column} AS VARCHAR), '')`;
}

/** Whether DuckDB's type is a list of plain values. */
export const isList = (type: string): boolean => /^[^(]*(\([^)]*\))?\[\d*\]$/.test(type) && !/^(STRUCT|MAP|UNION)/i.test(type);
