import { type FileHandle, open } from 'node:fs/promises';
import type { MessageHeader, RecordBatch, RecordBatchReader } from 'apache-arrow';
import { LongerError } from '../errors.ts';
import type { Schema } from '../schema/schema.ts';
import { checkFooter, checkMessage, checkPlaces } from './arrow_check.ts';
import { columnsToRead, mustExist, nested, type Row } from './rows.ts';

const magic = 'ARROW1';
/** Largest message (a record batch) that is read, in bytes. */
const largest = 2 ** 31 - 1;

/** Rows of an Arrow IPC file or stream, of one record batch at a time; only the columns that the schema reads. */
export async function* arrowRows(path: string, schema: Schema): AsyncGenerator<Row> {
  await mustExist(path);
  const damaged = (message: string, cause?: unknown): LongerError =>
    new LongerError('ERR_DATA', `not a whole Arrow file: ${message}`, { place: path, remedy: 'Write or copy it again', cause });
  const file = await open(path);
  try {
    let start = 0;
    let columns: string[] | undefined;
    for await (const { names, batch } of recordBatches(file, damaged)) {
      columns ??= columnsToRead(schema, names, path);
      if (!batch) continue;
      const end = start + batch.numRows;
      const place = `${path}: rows ${start} to ${end - 1}`;
      let values: Map<string, (i: number) => unknown>;
      try {
        values = new Map(columns.map((name) => [name, reader(batch.getChild(name), batch.numRows)]));
      } catch (cause) {
        yield { row: new LongerError('ERR_DATA', `cannot be read: ${(cause as Error).message}`, { place, remedy: 'Write or copy the file again', cause }), place, count: batch.numRows };
        start = end;
        continue;
      }
      for (let i = 0; i < batch.numRows; ++i) {
        const at = `${path}: row ${start + i}`;
        let row: unknown;
        try {
          row = nested(columns, (name) => values.get(name)!(i));
        } catch (cause) {
          row = new LongerError('ERR_DATA', `cannot be read: ${(cause as Error).message}`, { place: at, remedy: 'Write or copy the file again', cause });
        }
        yield { row, place: at };
      }
      start = end;
    }
  } finally {
    await file.close();
  }
}

type Damaged = (message: string, cause?: unknown) => LongerError;

/** The names alone come first, so that a file without rows has its columns checked too. */
async function* recordBatches(file: FileHandle, damaged: Damaged): AsyncGenerator<{ readonly names: string[]; readonly batch?: RecordBatch }> {
  const { AsyncRecordBatchFileReader, RecordBatchReader, MessageHeader, compressionRegistry, CompressionType } = await import('apache-arrow');
  const { decompress } = await import('fzstd');
  compressionRegistry.set(CompressionType.ZSTD, { decode: (data) => decompress(data) });
  const guarded = guard(damaged);
  const source = await located(file, damaged);
  if (source.form === 'file') {
    // Its schema may stand in the footer alone; the walk over the messages proves that the footer names them all.
    const places: number[] = [];
    let dictionaries = 0;
    const footer = await source.read(source.end, source.size - 10 - source.end);
    const columns = await guarded(() => checkFooter(footer));
    for await (const { place, kind } of messages(source, damaged, columns)) {
      if (kind === MessageHeader.RecordBatch) places.push(place);
      if (kind === MessageHeader.DictionaryBatch) ++dictionaries;
    }
    await guarded(() => { checkPlaces(footer, places, dictionaries); });
    const reader = (await guarded(async () => (await RecordBatchReader.from(file)).open({ autoDestroy: false }))) as RecordBatchReader;
    if (!(reader instanceof AsyncRecordBatchFileReader)) throw damaged('its footer cannot be read');
    const names = reader.schema.names.map(String);
    yield { names };
    for (let i = 0; i < places.length; ++i) {
      const batch = await guarded(() => reader.readRecordBatch(i));
      if (!batch) throw damaged(`record batch ${i} cannot be read`);
      yield { names, batch };
    }
    return;
  }
  yield* streamBatches(source, damaged);
}

type Guarded = <T>(read: () => T | Promise<T>) => Promise<T>;

const guard = (damaged: Damaged): Guarded => async (read) => {
  try {
    return await read();
  } catch (cause) {
    throw cause instanceof LongerError ? cause : damaged((cause as Error).message, cause);
  }
};

async function* streamBatches(source: Source, damaged: Damaged): AsyncGenerator<{ readonly names: string[]; readonly batch?: RecordBatch }> {
  const { RecordBatchReader, MessageHeader } = await import('apache-arrow');
  const guarded = guard(damaged);
  // What a batch is decoded with: the schema and the dictionaries so far.
  const before: Uint8Array[] = [];
  for await (const { place, length, kind } of messages(source, damaged)) {
    const bytes = await source.read(place, length);
    if ((kind === MessageHeader.Schema) !== (before.length === 0)) throw damaged('its schema does not come first, and alone');
    if (kind !== MessageHeader.RecordBatch) before.push(bytes);
    if (kind === MessageHeader.DictionaryBatch) continue;
    const decoder = await guarded(() => RecordBatchReader.from(Buffer.concat(kind === MessageHeader.Schema ? before : [...before, bytes])).open() as RecordBatchReader);
    const names = decoder.schema.names.map(String);
    if (kind === MessageHeader.Schema) yield { names };
    else yield { names, batch: await guarded(() => (decoder.next() as IteratorResult<RecordBatch>).value as RecordBatch) };
  }
  if (before.length === 0) throw damaged('it holds no schema');
}

/**
 * The one row of an Arrow IPC stream in memory: a request, as docs/data.md names its columns.
 * @param columns those to read, of the names that are there; throws for a name that does not belong
 * @throws LongerError ERR_DATA, also for compressed buffers: a few bytes could ask for much memory
 */
export async function arrowRequest(bytes: Buffer, place: string, columns: (names: readonly string[]) => readonly string[]): Promise<Record<string, unknown>> {
  const damaged = (message: string, cause?: unknown): LongerError => new LongerError('ERR_DATA', `not a whole Arrow stream of one row: ${message}`, { place, cause });
  const source: Source = { form: 'stream', begin: 0, end: bytes.length, size: bytes.length, compressed: false, read: (at, length) => Promise.resolve(bytes.subarray(at, at + length)) };
  let request: Record<string, unknown> | undefined;
  for await (const { names, batch } of streamBatches(source, damaged)) {
    if (!batch) columns(names);
    else if (batch.numRows > 0) {
      if (request || batch.numRows > 1) throw damaged('it has more rows');
      try {
        request = nested(columns(names), (name) => reader(batch.getChild(name), 1)(0));
      } catch (cause) {
        throw cause instanceof LongerError ? cause : damaged((cause as Error).message, cause);
      }
    }
  }
  if (!request) throw damaged('it has no row');
  return request;
}

interface Source {
  readonly form: 'file' | 'stream';
  /** Where the messages stand. */
  readonly begin: number;
  readonly end: number;
  /** Bytes of the file. */
  readonly size: number;
  /** Whether compressed buffers are read. */
  readonly compressed: boolean;
  readonly read: (position: number, length: number) => Promise<Buffer>;
}

async function located(file: FileHandle, damaged: Damaged): Promise<Source> {
  const { size } = await file.stat();
  const read = async (position: number, length: number): Promise<Buffer> => {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
    if (bytesRead !== length) throw damaged(`${length} bytes are missing at byte ${position}`);
    return buffer;
  };
  if (size < 8 || (await read(0, 6)).toString('latin1') !== magic) return { form: 'stream', begin: 0, end: size, size, compressed: true, read };
  if (size < 18 || (await read(size - 6, 6)).toString('latin1') !== magic) throw damaged('its end is missing');
  const end = size - 10 - (await read(size - 10, 4)).readInt32LE(0);
  if (end < 8 || end > size) throw damaged('its footer is damaged');
  return { form: 'file', begin: 8, end, size, compressed: true, read };
}

/** Where the messages are, each checked to be whole, which the decoder does not do. */
async function* messages({ begin, end, compressed, read }: Source, damaged: Damaged, columns: readonly number[] = []): AsyncGenerator<{ readonly place: number; readonly length: number; readonly kind: MessageHeader }> {
  for (let at = begin, count = 0; ; ++count) {
    // The end mark may be left out by the letter; a stream that was cut between two batches looks just so.
    if (end - at < 4) throw damaged('its end is missing');
    const first = (await read(at, 4)).readInt32LE(0);
    const prefix = first === -1 ? 8 : 4; // before version 0.15 a message had no mark
    if (end - at < prefix) throw damaged('it ends inside a message');
    const metadata = prefix === 8 ? (await read(at + 4, 4)).readInt32LE(0) : first;
    if (metadata === 0) {
      if (end - at - prefix >= 8) throw damaged(`${end - at - prefix} bytes stand behind its end`);
      return;
    }
    if (metadata < 0 || metadata > end - at - prefix) throw damaged(`message ${count} does not fit in the file`);
    const bytes = await read(at + prefix, metadata);
    let message: ReturnType<typeof checkMessage>;
    try {
      message = checkMessage(bytes, columns, compressed);
      columns = message.columns;
    } catch (cause) {
      throw damaged(`message ${count} is damaged: ${(cause as Error).message}`, cause);
    }
    const length = prefix + metadata + message.body;
    if (!(length >= prefix + metadata && length <= Math.min(end - at, largest))) throw damaged(`message ${count} does not fit in the file`);
    yield { place: at, length, kind: message.kind };
    at += length;
  }
}

/** The parts of Arrow's own types that are used here. */
interface Column {
  readonly length: number;
  readonly nullCount: number;
  readonly type: { toString(): string };
  readonly data: readonly Values[];
  get(i: number): unknown;
  toArray(): unknown;
}
interface Values {
  readonly length: number;
  readonly nullCount: number;
  readonly offset: number;
  readonly stride: number;
  readonly type: { toString(): string };
  readonly values?: ArrayLike<unknown>;
  readonly valueOffsets?: Int32Array | BigInt64Array;
  readonly nullBitmap?: Uint8Array;
  readonly children: readonly Values[];
}

/** Values of a column: numbers, bigints, texts, dates and lists of them; null where a value is missing. */
function reader(column: Column | null, rows: number): (i: number) => unknown {
  if (!column || column.length !== rows) throw new Error(`a column has ${column?.length ?? 0} rows, its batch ${rows}`);
  for (const data of column.data) check(data);
  // Times are counted in seconds by us and in milliseconds by Arrow's reader.
  const plain = isTime(column) ? date : plainOf;
  return (i) => plain(column.get(i));
}

const isTime = (column: Column): boolean => /^(Date|Timestamp)/.test(column.type.toString());
const date = (v: unknown): unknown => (v === null ? null : new Date(Number(v)));

function plainOf(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('data' in value && 'nullCount' in value)) return value;
  const list = value as Column;
  const scalar = /^(Int|Uint)(8|16|32|64)|^Float(32|64)/.test(list.type.toString());
  return scalar && list.nullCount === 0 ? list.toArray() : Array.from(list as unknown as Iterable<unknown>, isTime(list) ? date : plainOf);
}

/** The decoder slices buffers as the metadata says, silently shorter where they end. */
function check(data: Values): void {
  const { length, nullCount, values, valueOffsets: offsets, nullBitmap, children } = data;
  const type = data.type.toString();
  const fail = (what: string): never => {
    throw new Error(`${type}: ${what}`);
  };
  if (nullCount < 0 || nullCount > length) fail(`${nullCount} of ${length} values are said to be null`);
  if (nullCount > 0 && (nullBitmap?.length ?? 0) < Math.ceil(((data.offset % 8) + length) / 8)) fail('its null bits are missing');
  if (offsets && length > 0) {
    if (offsets.length < length + 1) fail('its offsets are missing');
    if (Number(offsets[0]) < 0) fail('an offset is negative');
    for (let i = 0; i < length; ++i) if (offsets[i + 1]! < offsets[i]!) fail('an offset goes backwards');
    if (Number(offsets[length]) > (children[0]?.length ?? values?.length ?? 0)) fail('a list ends outside of its values');
  } else if (values && children.length === 0) {
    const needed = type.startsWith('Bool') ? Math.ceil(length / 8) : length * Math.max(1, data.stride);
    if (values.length < needed) fail(`${values.length} of ${needed} values are there`);
  }
  for (const child of children) check(child);
}
