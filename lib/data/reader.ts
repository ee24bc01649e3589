import { LongerError } from '../errors.ts';
import type { EncodedRequest } from '../schema/encode.ts';
import { expectOptions, expectPath } from '../schema/given.ts';
import { expectSchema, type Schema } from '../schema/schema.ts';
import type { RequestSize } from './batch_limits.ts';
import type { Catalog } from './catalog.ts';
import { catalogRows, readerOf } from './encoded_rows.ts';
import { jsonlRows } from './jsonl.ts';
import { parquetCount, parquetRows, parquetSizes } from './parquet.ts';
import { rowsFromThread } from './read_elsewhere.ts';
import { sizeColumns } from './rows.ts';
import { turn } from './turns.ts';

export interface ReadOptions {
  /** Bad rows are counted and left out instead of ending the run. */
  readonly skipBad?: boolean;
  /** Rows are requests in the terms of its log (JSON lines). */
  readonly catalog?: Catalog;
}

/**
 * A file of requests, by its ending: Parquet with list columns (.parquet), Arrow IPC as file or stream (.arrow, .arrows,
 * .ipc, .feather) or one JSON request a line (.jsonl, .ndjson); docs/data.md has the columns. Row groups and record
 * batches are read one at a time, decoded and checked on a thread of their own; the file may be read again and again.
 */
export class Dataset {
  readonly path: string;
  readonly schema: Schema;
  readonly skipBad: boolean;
  /** What was left out: the first hundred messages, and how many rows there were. */
  readonly bad: string[] = [];
  badCount = 0;
  readonly #read: ReturnType<typeof readerOf>;
  readonly #catalog: Catalog | undefined;

  /** @throws LongerError ERR_DATA for a file of another kind, ERR_SCHEMA where the schema's codes are not the catalog's */
  constructor(path: string, schema: Schema, options: ReadOptions = {}) {
    expectPath(path, 'Dataset', 'ERR_DATA');
    expectSchema(schema);
    expectOptions(options, ['skipBad', 'catalog'], 'Dataset');
    this.#read = readerOf(path);
    this.path = path;
    this.schema = schema;
    this.skipBad = options.skipBad ?? false;
    this.#catalog = options.catalog;
    if (!this.#catalog) return;
    this.#catalog.check(schema, path);
    if (this.#read !== jsonlRows) throw new LongerError('ERR_DATA', "requests in a log's terms are read from JSON lines", { place: path, remedy: "Write them as .jsonl; a file that 'longer prepare' made needs no catalog" });
  }

  /** Requests in file order. @throws LongerError ERR_DATA naming file, row and feature */
  async *[Symbol.asyncIterator](): AsyncGenerator<EncodedRequest> {
    for await (const request of this.rows()) if (!(request instanceof LongerError)) yield request;
  }

  /** Requests in file order, with `skipBad` an error in the place of each bad row. @throws LongerError ERR_DATA without */
  async *rows(): AsyncGenerator<EncodedRequest | LongerError> {
    for await (const { row, count } of this.#catalog ? catalogRows(this.path, this.schema, this.#catalog) : rowsFromThread(this.path, this.schema)) {
      await turn();
      if (!(row instanceof LongerError)) {
        yield row;
        continue;
      }
      if (!this.skipBad) throw row;
      this.badCount += count;
      if (this.bad.length < 100) this.bad.push(row.message);
      for (let i = 0; i < count; ++i) yield row;
    }
  }

  /**
   * Events and candidates of each request in file order, as a plan of the batches needs them. A Parquet file is asked for the lengths of two columns: bad rows
   * count too, and no other fault of a row is found. Other files are read as rows.
   * @throws LongerError ERR_DATA
   */
  async *sizes(): AsyncGenerator<RequestSize> {
    const columns = sizeColumns(this.schema);
    if (this.#read === parquetRows && columns !== undefined) yield* parquetSizes(this.path, this.schema, columns);
    else yield* this;
  }

  /** Rows of the file, where it says so without being read (Parquet); undefined otherwise. */
  async count(): Promise<number | undefined> {
    return this.#read === parquetRows ? parquetCount(this.path) : undefined;
  }
}
