import { type DuckDBDataChunk, DuckDBInstance, type DuckDBConnection, DuckDBListValue, DuckDBListVector, type DuckDBType, DuckDBTypeId, type DuckDBValue, type DuckDBVector } from '@duckdb/node-api';
import { LongerError } from '../errors.ts';
import { NumberLists } from '../schema/encode.ts';
import type { Schema } from '../schema/schema.ts';
import type { RequestSize } from './batch_limits.ts';
import { inFlight } from './in_flight.ts';
import { columnsToRead, mustExist, nested, type Row } from './rows.ts';

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;
const name = (text: string): string => `"${text.replaceAll('"', '""')}"`;
/** No globbing: the file is the one that was named. */
const table = (path: string): string => `read_parquet(${quoted(path.replace(/[*?[]/g, '[$&]'))}, binary_as_string = true, hive_partitioning = false)`;

let shared: Promise<DuckDBInstance> | undefined;

async function connect(path: string): Promise<DuckDBConnection> {
  await mustExist(path);
  // One thread: the others train, and rows come in the order of the file.
  shared ??= DuckDBInstance.create(':memory:', { threads: '1' });
  const instance = shared;
  return inFlight(async () => (await instance).connect());
}

/** DuckDB's message without its picture of the statement. */
const reason = (cause: unknown): string => (cause as Error).message.split('\n')[0]!.replace(/^(Invalid Input|Invalid|IO|Binder) Error: /, '');

async function promised(connection: DuckDBConnection, path: string): Promise<number> {
  try {
    const result = await inFlight(() => connection.runAndReadAll(`SELECT coalesce(sum(num_rows), 0)::DOUBLE FROM parquet_file_metadata(${quoted(path.replace(/[*?[]/g, '[$&]'))})`));
    return Number(result.getRows()[0]![0]);
  } catch (cause) {
    throw new LongerError('ERR_DATA', `not a whole Parquet file: ${reason(cause)}`, { place: path, remedy: 'Write or copy it again', cause });
  }
}

/** Rows that the footer promises. @throws LongerError ERR_DATA */
export async function parquetCount(path: string): Promise<number> {
  const connection = await connect(path);
  try {
    return await promised(connection, path);
  } finally {
    connection.closeSync();
  }
}

/** Lengths of two list columns by row, 0 where there is no list. @throws LongerError ERR_DATA */
export async function* parquetSizes(path: string, schema: Schema, columns: { readonly events: string; readonly candidates: string }): AsyncGenerator<RequestSize> {
  const connection = await connect(path);
  try {
    await promised(connection, path);
    columnsToRead(schema, (await columnsOf(connection, path)).columnNames, path);
    const result = await inFlight(() => connection.stream(`SELECT ${[columns.events, columns.candidates].map((c) => `coalesce(len(${name(c)}), 0)::INTEGER`).join(', ')} FROM ${table(path)}`));
    const next = (): Promise<DuckDBDataChunk | null> => inFlight(() => result.fetchChunk());
    for (let chunk = await next(); chunk && chunk.rowCount > 0; chunk = await next()) {
      const [events, candidates] = [chunk.getColumnVector(0), chunk.getColumnVector(1)];
      for (let i = 0; i < chunk.rowCount; ++i) yield { events: events.getItem(i) as number, candidates: candidates.getItem(i) as number };
    }
  } catch (cause) {
    throw cause instanceof LongerError ? cause : new LongerError('ERR_DATA', `cannot be read: ${reason(cause)}`, { place: path, remedy: 'Write or copy it again', cause });
  } finally {
    connection.closeSync();
  }
}

/** A small table whole, by column. @throws LongerError ERR_DATA */
export async function parquetTable(path: string): Promise<Record<string, unknown[]>> {
  const connection = await connect(path);
  try {
    await promised(connection, path);
    const read = await inFlight(() => connection.runAndReadAll(`SELECT * FROM ${table(path)}`));
    return read.getColumnsObjectJS();
  } finally {
    connection.closeSync();
  }
}

/** Rows of a Parquet file, some thousand at a time; only the columns that the schema reads. */
export async function* parquetRows(path: string, schema: Schema): AsyncGenerator<Row> {
  const connection = await connect(path);
  try {
    const total = await promised(connection, path);
    const failed = (start: number, cause: unknown): Row => {
      const place = `${path}: rows ${start} to ${total - 1}`;
      return { place, count: total - start, row: new LongerError('ERR_DATA', `cannot be read: ${reason(cause)}`, { place, remedy: 'Write or copy the file again', cause }) };
    };
    let names: string[];
    let result;
    try {
      const { columnNames, columnTypes } = await columnsOf(connection, path);
      names = columnsToRead(schema, columnNames, path);
      const columns = names.map((n) => select(n, columnTypes[columnNames.indexOf(n)]!));
      result = await inFlight(() => connection.stream(`SELECT ${columns.join(', ')} FROM ${table(path)}`));
    } catch (cause) {
      throw cause instanceof LongerError ? cause : new LongerError('ERR_DATA', `not a whole Parquet file: ${reason(cause)}`, { place: path, remedy: 'Write or copy it again', cause });
    }
    for (let start = 0; ; ) {
      let columns: Map<string, (i: number) => unknown>;
      let rows: number;
      try {
        const chunk = await inFlight(() => result.fetchChunk());
        rows = chunk?.rowCount ?? 0;
        if (rows === 0 && start !== total) throw new Error(`${start} rows were found, ${total} are said to be there`);
        columns = new Map(rows > 0 ? names.map((n, c) => [n, reader(chunk!.getColumnVector(c))]) : []); // copies of all their rows
      } catch (cause) {
        yield failed(start, cause);
        return;
      }
      if (rows === 0) return;
      for (let i = 0; i < rows; ++i) yield { row: nested(names, (n) => columns.get(n)!(i)), place: `${path}: row ${start + i}` };
      start += rows;
    }
  } finally {
    connection.closeSync();
  }
}

async function columnsOf(connection: DuckDBConnection, path: string): Promise<{ columnNames: string[]; columnTypes: DuckDBType[] }> {
  const result = await inFlight(() => connection.run(`SELECT * FROM ${table(path)} LIMIT 0`));
  return { columnNames: result.columnNames(), columnTypes: result.columnTypes() };
}

/** What JavaScript has no number for becomes one: times are seconds, decimals doubles. */
function select(column: string, type: DuckDBType): string {
  const text = type.toString();
  const list = text.endsWith('[]');
  const cast = (x: string): string => {
    if (/^(TIMESTAMP|DATE)/.test(text)) return `epoch(${x})`;
    if (text.startsWith('DECIMAL')) return `${x}::DOUBLE`;
    if (/^(ENUM|UUID)/.test(text)) return `${x}::VARCHAR`;
    return x;
  };
  const converted = list && !text.endsWith('[][]') ? (cast('x') === 'x' ? name(column) : `list_transform(${name(column)}, lambda x: ${cast('x')})`) : cast(name(column));
  return `${converted} AS ${name(column)}`;
}

const numberLists = new Map<DuckDBTypeId, typeof Int32Array | typeof Float64Array>([
  [DuckDBTypeId.TINYINT, Int32Array], [DuckDBTypeId.UTINYINT, Int32Array], [DuckDBTypeId.SMALLINT, Int32Array], [DuckDBTypeId.USMALLINT, Int32Array],
  [DuckDBTypeId.INTEGER, Int32Array], [DuckDBTypeId.UINTEGER, Float64Array], [DuckDBTypeId.FLOAT, Float64Array], [DuckDBTypeId.DOUBLE, Float64Array],
]);

/** Values of a column by row. Numbers in lists are copied into typed arrays: as JavaScript arrays they cost more than all other reading. */
function reader(vector: DuckDBVector): (i: number) => unknown {
  const other = (i: number): unknown => plain(vector.getItem(i) as DuckDBValue);
  if (!(vector instanceof DuckDBListVector)) return other;
  const inner = vector.childVector;
  const type = numberLists.get((inner instanceof DuckDBListVector ? inner.childVector : inner).type.typeId);
  if (!type) return other;
  /** The numbers from `at` on, or null where one is missing. */
  const numbers = (from: DuckDBVector, at: number, count: number): Int32Array | Float64Array | null => {
    const list = new type(count);
    for (let j = 0; j < count; ++j) {
      const x = from.getItem(at + j) as number | null;
      if (x === null) return null;
      list[j] = x;
    }
    return list;
  };
  return (i) => {
    if (!vector.getItemVector(i)) return null;
    const [at, count] = [vector.getEntryOffset(i), vector.getEntryLength(i)];
    if (!(inner instanceof DuckDBListVector)) return numbers(inner, at, count) ?? other(i);
    const offsets = new Int32Array(count + 1);
    const first = count > 0 ? inner.getEntryOffset(at) : 0;
    for (let j = 0; j < count; ++j) {
      // Rows of a list lie end to end, as Parquet has them; where a reader hands them over otherwise, row by row.
      if (inner.getEntryOffset(at + j) !== first + offsets[j]!) return other(i);
      offsets[j + 1] = offsets[j]! + inner.getEntryLength(at + j);
    }
    const values = numbers(inner.childVector, first, offsets[count]!);
    return values ? new NumberLists(offsets, values) : other(i);
  };
}

function plain(value: DuckDBValue): unknown {
  if (!(value instanceof DuckDBListValue)) return value;
  return value.items.some((v) => v instanceof DuckDBListValue) ? value.items.map(plain) : value.items;
}
