import { type DataType, Field, Float64, Int32, List, makeBuilder, Table, tableToIPC, Utf8, type Vector } from 'apache-arrow';

export type Row = Readonly<Record<string, unknown>>;

export const listOf = (of: DataType): DataType => new List(new Field('item', of, true));

/** Of the columns of requests of richSchema, and one that no schema has. */
export const arrowTypes: Readonly<Record<string, DataType>> = {
  time: new Float64(), historyStart: new Int32(), userId: new Utf8(), topK: new Int32(), explain: new Int32(), tasks: listOf(new Utf8()), stranger: new Int32(),
  'user.user_id': new Utf8(), 'user.age': new Float64(), 'user.likes': listOf(new Int32()), 'context.hour': new Int32(),
  'history.item': listOf(new Int32()), 'history.action': listOf(new Int32()), 'history.dwell': listOf(new Float64()), 'history.time': listOf(new Float64()),
  'candidates.item': listOf(new Int32()), 'candidates.price': listOf(new Float64()),
};

function column(type: DataType, rows: readonly unknown[]): Vector {
  const builder = makeBuilder({ type, nullValues: [null, undefined] });
  for (const value of rows) builder.append(value);
  return builder.finish().toVector();
}

/** The columns of a data file that a request has. */
export const flat = (row: Row): Row => Object.fromEntries(Object.entries(row).flatMap(([key, value]) => {
  if (Array.isArray(value) && key !== 'tasks') return Object.keys((value[0] ?? {}) as object).map((f) => [`${key}.${f}`, (value as Row[]).map((e) => e[f])]);
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.entries(value).map(([f, v]) => [`${key}.${f}`, v as unknown]) : [[key, value]];
}));

/** Rows of values by column; a column has the type that its name has, or another one. */
export function arrowColumns(rows: readonly Row[], types: Readonly<Record<string, DataType>> = {}): Table {
  return new Table(Object.fromEntries(Object.keys(rows[0]!).map((name) => [name, column(types[name] ?? arrowTypes[name]!, rows.map((row) => row[name]))])));
}

/** Requests as rows with the columns of a data file. */
export const arrowTable = (rows: readonly Row[]): Table => arrowColumns(rows.map(flat));

export const arrowStream = (...rows: readonly Row[]): Buffer => Buffer.from(tableToIPC(arrowTable(rows), 'stream'));
