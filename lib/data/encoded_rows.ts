import { extname } from 'node:path';
import { LongerError } from '../errors.ts';
import { encodeRequest, type EncodedRequest } from '../schema/encode.ts';
import type { RequestOf, Schema, SchemaSpec } from '../schema/schema.ts';
import { nearest } from '../schema/suggest.ts';
import { arrowRows } from './arrow.ts';
import type { Catalog, CatalogRequest } from './catalog.ts';
import { jsonlRows } from './jsonl.ts';
import { parquetRows } from './parquet.ts';
import type { Row } from './rows.ts';

/** A row of a file as a request, or why it is none; an error may stand for several rows. */
export interface EncodedRow {
  readonly row: EncodedRequest | LongerError;
  readonly count: number;
}

type Read = (path: string, schema: Schema) => AsyncGenerator<Row>;
const readers: Readonly<Record<string, Read>> = {
  '.parquet': parquetRows,
  '.jsonl': jsonlRows,
  '.ndjson': jsonlRows,
  '.arrow': arrowRows,
  '.arrows': arrowRows,
  '.ipc': arrowRows,
  '.feather': arrowRows,
};

/** @throws LongerError ERR_DATA for a file of another kind */
export function readerOf(path: string): Read {
  const ending = extname(path).toLowerCase();
  const read = readers[ending];
  if (read) return read;
  const guess = ending === '.json' ? '.jsonl' : nearest(ending, Object.keys(readers));
  throw new LongerError('ERR_DATA', `files that end in '${ending}' are not read${guess ? `; did you mean '${guess}'?` : ''}`, { place: path, remedy: `Known: ${Object.keys(readers).join(', ')}` });
}

/** Rows in file order, read and encoded on this thread. @throws LongerError ERR_DATA for what is no fault of a row */
export async function* encodedRows(path: string, schema: Schema): AsyncGenerator<EncodedRow> {
  for await (const { row, place, count = 1 } of readerOf(path)(path, schema)) yield { row: row instanceof LongerError ? row : encoded(schema, row, place), count };
}

/** The same of requests in a catalog's terms, one a JSON line. */
export async function* catalogRows(path: string, schema: Schema, catalog: Catalog): AsyncGenerator<EncodedRow> {
  for await (const { row, place } of jsonlRows(path)) yield { row: row instanceof LongerError ? row : attempt(() => catalog.encode(schema, row as CatalogRequest, place)), count: 1 };
}

function encoded(schema: Schema, row: unknown, place: string): EncodedRequest | LongerError {
  return attempt(() => encodeRequest(schema, row as RequestOf<SchemaSpec>, place));
}

function attempt(encode: () => EncodedRequest): EncodedRequest | LongerError {
  try {
    return encode();
  } catch (error) {
    if (error instanceof LongerError) return error;
    throw error;
  }
}
