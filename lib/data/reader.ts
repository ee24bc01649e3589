import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects, type FileMetaData } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { LongerError } from '../errors.ts';
import { encodeRequest, type EncodedRequest } from '../schema/encode.ts';
import type { RequestOf, Schema, SchemaSpec } from '../schema/schema.ts';

export interface ReadOptions {
  /** Bad rows are counted and left out instead of ending the run. */
  readonly skipBad?: boolean;
}

/** A file of requests: Parquet with list columns (.parquet) or one JSON request a line (.jsonl). docs/data.md has the columns. */
export class Dataset {
  readonly path: string;
  readonly schema: Schema;
  readonly skipBad: boolean;
  /** What was left out: the first hundred messages, and how many there were. */
  readonly bad: string[] = [];
  badCount = 0;

  constructor(path: string, schema: Schema, options: ReadOptions = {}) {
    this.path = path;
    this.schema = schema;
    this.skipBad = options.skipBad ?? false;
  }

  /** Requests in file order. @throws LongerError ERR_DATA naming file, row and feature */
  async *[Symbol.asyncIterator](): AsyncGenerator<EncodedRequest> {
    const rows = this.path.endsWith('.parquet') ? parquetRows(this.path) : jsonlRows(this.path);
    for await (const { row, place } of rows) {
      let encoded: EncodedRequest;
      try {
        if (row instanceof LongerError) throw row;
        encoded = encodeRequest(this.schema, row as RequestOf<SchemaSpec>, place);
      } catch (error) {
        if (!this.skipBad || !(error instanceof LongerError)) throw error;
        this.badCount++;
        if (this.bad.length < 100) this.bad.push(error.message);
        continue;
      }
      yield encoded;
    }
  }

  /** Rows of the file, where it says so without being read (Parquet); undefined otherwise. */
  async count(): Promise<number | undefined> {
    return this.path.endsWith('.parquet') ? Number((await parquetFile(this.path)).metadata.num_rows) : undefined;
  }
}

interface Row {
  readonly row: unknown;
  readonly place: string;
}

async function* jsonlRows(path: string): AsyncGenerator<Row> {
  await mustExist(path);
  let line = 0;
  for await (const text of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
    const place = `${path}:${++line}`;
    if (text.trim() === '') continue;
    let row: unknown;
    try {
      row = JSON.parse(text);
    } catch (cause) {
      row = new LongerError('ERR_DATA', `not valid JSON: ${(cause as Error).message}`, { place, remedy: 'Each line holds one request', cause });
    }
    yield { row, place };
  }
}

async function parquetFile(path: string): Promise<{ file: Awaited<ReturnType<typeof asyncBufferFromFile>>; metadata: FileMetaData }> {
  await mustExist(path);
  try {
    const file = await asyncBufferFromFile(path);
    return { file, metadata: await parquetMetadataAsync(file) };
  } catch (cause) {
    throw new LongerError('ERR_DATA', `not a whole Parquet file: ${(cause as Error).message}`, { place: path, remedy: 'Write or copy it again', cause });
  }
}

async function* parquetRows(path: string): AsyncGenerator<Row> {
  const { file, metadata } = await parquetFile(path);
  let start = 0;
  for (const group of metadata.row_groups) {
    const end = start + Number(group.num_rows);
    let rows: Record<string, unknown>[];
    try {
      rows = await parquetReadObjects({ file, metadata, compressors, rowStart: start, rowEnd: end });
    } catch (cause) {
      throw new LongerError('ERR_DATA', `rows ${start} to ${end - 1} cannot be read: ${(cause as Error).message}`, { place: path, remedy: 'Write or copy the file again', cause });
    }
    for (const [i, flat] of rows.entries()) yield { row: nested(flat), place: `${path}: row ${start + i}` };
    start = end;
  }
}

/** `history.item` and its like become an object a side; `user_id` is the user's key. */
function nested(flat: Record<string, unknown>): Record<string, unknown> {
  const request: Record<string, unknown> = { user: {}, context: {}, history: {}, candidates: {}, labels: {} };
  for (const [column, value] of Object.entries(flat)) {
    const dot = column.indexOf('.');
    if (dot < 0) request[column === 'user_id' ? 'userKey' : column] = column === 'user_id' ? String(value) : typeof value === 'bigint' && column === 'time' ? Number(value) : value;
    else (request[column.slice(0, dot)] as Record<string, unknown>)[column.slice(dot + 1)] = value;
  }
  return request;
}

async function mustExist(path: string): Promise<void> {
  try {
    const info = await stat(path);
    if (!info.isFile()) throw new Error('not a file');
    await (await open(path)).close();
  } catch (cause) {
    throw new LongerError('ERR_DATA', `the file cannot be read: ${(cause as Error).message}`, { place: path, cause });
  }
}
