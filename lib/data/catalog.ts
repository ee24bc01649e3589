import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LongerError } from '../errors.ts';
import { encodeRequest, type EncodedRequest } from '../schema/encode.ts';
import { type Fail, failAt, show } from '../schema/fail.ts';
import { expectInOrder } from '../schema/times.ts';
import type { Schema } from '../schema/schema.ts';
import { nearest } from '../schema/suggest.ts';
import { membersOf } from './cell_lists.ts';
import { type CatalogFile, type CellEncoding, isCatalogFile, isVocabulary, shortened } from './catalog_file.ts';
import { perSecond } from './prepare_options.ts';
import { parquetTable } from './parquet.ts';
import { Vocabulary } from './vocabulary.ts';

type Cells = Readonly<Record<string, unknown>>;

/** A side table: features by key. */
interface Side {
  /** Column of the log that holds the key. */
  readonly key: string;
  readonly feature: 'user' | 'item';
  readonly encodings: readonly CellEncoding[];
  readonly rows: ReadonlyMap<string, number>;
  readonly columns: Readonly<Record<string, ArrayLike<unknown>>>;
}

type Sides = { readonly user: Side; readonly item: Side };

/**
 * A request in the terms of the log, with the names of its columns. A user or candidate is a key, or an object of the key and of side columns, which then
 * stand in place of the side table's. What else the request has (`id`, `labels`, `userId`, `topK` …) passes through.
 */
export interface CatalogRequest {
  readonly user?: unknown;
  /** A number in the log's unit, or a timestamp (UTC where it names no zone). */
  readonly time?: unknown;
  /** Rows of the log without their user, oldest first. */
  readonly history?: unknown;
  readonly candidates?: unknown;
  readonly [other: string]: unknown;
}

/**
 * What `prepare` learned of a log: the codes of its users, items and categories, and the features of its side tables. It turns a request in the log's terms
 * into one of the schema, as `prepare` did for the training data: keys become codes, side features are joined, values are put into buckets. A key that
 * training lacks has code 0; one that the side table lacks has missing features.
 */
export class Catalog {
  /** What a schema of the same `prepare` names as its catalog. */
  readonly fingerprint: string;
  readonly #file: CatalogFile;
  readonly #vocabularies: ReadonlyMap<string, Vocabulary>;
  readonly #sides: Sides;
  /** Columns of an event that are not its item's. */
  readonly #ofEvent: ReadonlySet<string>;

  private constructor(fingerprint: string, file: CatalogFile, vocabularies: ReadonlyMap<string, Vocabulary>, sides: Sides) {
    this.fingerprint = fingerprint;
    this.#file = file;
    this.#vocabularies = vocabularies;
    this.#sides = sides;
    this.#ofEvent = new Set([...file.event.map((e) => e.column), ...(file.columns.time === null ? [] : [file.columns.time])]);
  }

  /** @param directory what `prepare` made @throws LongerError ERR_DATA for a directory that holds no whole catalog */
  static async open(directory: string): Promise<Catalog> {
    const read = (name: string): Promise<string> => readFile(join(directory, name), 'utf8').catch((cause: unknown) => {
      throw new LongerError('ERR_DATA', `the catalog cannot be read: ${(cause as Error).message}`, { place: join(directory, name), remedy: "'longer prepare' writes one beside the data", cause });
    });
    const parse = <T>(name: string, text: string, is: (value: unknown) => value is T): T => {
      const place = join(directory, name);
      let value: unknown;
      try {
        value = JSON.parse(text);
      } catch (cause) {
        throw new LongerError('ERR_DATA', `not valid JSON: ${(cause as Error).message}`, { place, remedy: 'Copy it again', cause });
      }
      if (!is(value)) throw new LongerError('ERR_DATA', "not what this version's 'longer prepare' writes", { place, remedy: 'Copy it again, or prepare the data anew' });
      return value;
    };
    const [text, words] = [await read('catalog.json'), await read('vocabulary.json')];
    const file = parse('catalog.json', text, isCatalogFile);
    const vocabularies = new Map(Object.entries(parse('vocabulary.json', words, isVocabulary)).map(([name, keys]) => [name, new Vocabulary(keys)]));
    const side = async (feature: 'user' | 'item'): Promise<Side> => {
      const columns = file[feature].length > 0 ? await parquetTable(join(directory, `${feature}s.parquet`)) : { key: [] };
      return { key: file.columns[feature], feature, encodings: file[feature], columns, rows: new Map(Array.from(columns['key']!, (key, i) => [String(key), i])) };
    };
    return new Catalog(shortened(createHash('sha256').update(text).update('\0').update(words)), file, vocabularies, { user: await side('user'), item: await side('item') });
  }

  /** Columns that a user, a candidate and an event have here, keys and then times first. */
  get columns(): { readonly user: readonly string[]; readonly candidate: readonly string[]; readonly event: readonly string[] } {
    const { columns, user, item, event } = this.#file;
    const names = (list: readonly CellEncoding[]): string[] => list.map((e) => e.column);
    return {
      user: [columns.user, ...names(user)], candidate: [columns.item, ...names(item)],
      event: [columns.item, ...(columns.time === null ? [] : [columns.time]), ...names(event), ...names(item)],
    };
  }

  /** @throws LongerError ERR_SCHEMA where a schema's codes are not this catalog's */
  check(schema: Schema, place: string): void {
    if (schema.spec.catalog === this.fingerprint) return;
    throw new LongerError('ERR_SCHEMA', schema.spec.catalog === undefined ? "the model's schema names no catalog" : "the model was trained on data of another catalog, whose codes are others", {
      place, remedy: "Give the directory that 'longer prepare' made for the model's training data, and train with its schema.json",
    });
  }

  /**
   * A request of the schema, not yet checked against it.
   * @throws LongerError ERR_DATA naming the place and the column
   */
  request(raw: CatalogRequest, place = 'request'): Record<string, unknown> {
    const fail = failAt(place);
    if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) throw new LongerError('ERR_DATA', 'expected a request', { place });
    const { user, time, history, candidates, ...rest } = raw;
    const list = (name: string, value: unknown): readonly unknown[] => (Array.isArray(value) ? value : fail(name, 'expected a list'));
    const request: Record<string, unknown> = { ...rest };
    if (user !== undefined) {
      const row = this.#row(this.#sides.user, user, 'user', fail);
      request['user'] = row.features;
      request['userKey'] ??= row.key;
    }
    if (time !== undefined) request['time'] = this.#seconds(time, 'time', fail);
    if (history !== undefined) request['history'] = this.#events(list('history', history), 'history', fail, time === undefined ? undefined : { seconds: request['time'] as number, written: time });
    if (candidates !== undefined) request['candidates'] = list('candidates', candidates).map((c, i) => this.#row(this.#sides.item, c, `candidates[${i}]`, fail).features);
    return request;
  }

  /** Events of a history in the log's terms as those of the schema. @throws LongerError ERR_DATA naming event and column */
  events(raw: unknown): Record<string, unknown>[] {
    const fail: Fail = (place, message, remedy) => {
      throw new LongerError('ERR_DATA', message, { place, ...(remedy === undefined ? {} : { remedy }) });
    };
    return Array.isArray(raw) ? this.#events(raw, 'events', fail) : fail('events', 'expected a list of events');
  }

  /**
   * A request in the log's terms, checked and encoded.
   * @throws LongerError ERR_DATA naming the place and what the request has there, in its own terms
   */
  encode(schema: Schema, raw: CatalogRequest, place = 'request'): EncodedRequest {
    try {
      const request = this.request(raw, place);
      for (const name of ['history', 'candidates']) if (request[name] === undefined) failAt(place)(name, 'is missing', 'Give a list; it may be empty');
      return encodeRequest(schema, request as never, place);
    } catch (error) {
      throw this.named(error);
    }
  }

  /** An error about a converted request or event as one about what it was made of: `history[0].time` is the log's column of times, and so on. Others as they are. */
  named(error: unknown): unknown {
    if (!(error instanceof LongerError) || error.place === undefined) return error;
    const [, before, side, feature, after] = /^((?:.*: )?(user|history|events|candidates)(?:\[\d+\])?\.)([^.[]+)(.*)$/s.exec(error.place) ?? [];
    const column = side === undefined ? undefined : this.#columnOf(side, feature!);
    if (column === undefined || column === feature) return error;
    return new LongerError(error.code, error.reason, { place: `${before}${column}${after}`, ...(error.remedy === undefined ? {} : { remedy: error.remedy }), cause: error.cause });
  }

  /** The column that a feature of a side was made of. */
  #columnOf(side: string, feature: string): string | undefined {
    const { columns, user, item, event } = this.#file;
    if (side === 'user') return feature === 'user' ? columns.user : user.find((e) => e.feature === feature)?.column;
    if (feature === 'item') return columns.item;
    if (feature === 'time' && side !== 'candidates') return columns.time ?? undefined;
    return (side === 'candidates' ? item : [...event, ...item]).find((e) => e.feature === feature)?.column;
  }

  /** @param request its time, which no event may pass */
  #events(raw: readonly unknown[], list: string, fail: Fail, request?: { readonly seconds: number; readonly written: unknown }): Record<string, unknown>[] {
    const events = raw.map((e, i) => this.#event(e, `${list}[${i}]`, fail));
    const { time } = this.#file.columns;
    if (time === null) return events;
    const times = Float64Array.from(events, (e) => e['time'] as number);
    expectInOrder(times, -Infinity, request?.seconds ?? Infinity, fail, { at: (i) => `${list}[${i}].${time}`, value: (_, i) => show((raw[i] as Cells)[time]), request: show(request?.written) });
    return events;
  }

  #event(raw: unknown, at: string, fail: Fail): Record<string, unknown> {
    const { columns, event } = this.#file;
    if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) return fail(at, `expected a row of the log: ${[columns.item, columns.time, ...event.map((e) => e.column)].filter((c) => c !== null).join(', ')}`);
    const { features } = this.#row(this.#sides.item, raw, at, fail, this.#ofEvent);
    for (const e of event) features[e.feature] = this.#cell(e, (raw as Cells)[e.column], `${at}.${e.column}`, fail);
    if (columns.time !== null) features['time'] = this.#seconds((raw as Cells)[columns.time], `${at}.${columns.time}`, fail);
    return features;
  }

  /** From a number or a timestamp, as prepare reads them. */
  #seconds(value: unknown, at: string, fail: Fail): number {
    if (value === undefined || value === null || value === '') return fail(at, 'is missing');
    if (value instanceof Date) return value.getTime() / 1000;
    if (typeof value === 'object') return fail(at, `expected a number or a timestamp, got ${show(value)}`);
    const n = typeof value === 'boolean' ? NaN : Number(value);
    if (!Number.isNaN(n)) return n / perSecond[this.#file.timeUnit];
    const text = String(value).trim().replace(' ', 'T');
    const zoned = text.length <= 10 || /[zZ]|[+-]\d\d(:?\d\d)?$/.test(text.slice(10));
    const milliseconds = Date.parse(zoned ? text : `${text}Z`);
    return Number.isNaN(milliseconds) ? fail(at, `expected a number or a timestamp, got ${show(value)}`) : milliseconds / 1000;
  }

  /** @param others columns of an object that are read elsewhere */
  #row({ key: name, feature, encodings, rows, columns }: Side, raw: unknown, at: string, fail: Fail, others: ReadonlySet<string> = new Set()): { readonly key: string; readonly features: Record<string, unknown> } {
    const given = typeof raw === 'object' && raw !== null && !Array.isArray(raw) ? (raw as Cells) : undefined;
    const key = keyOf(given ? given[name] : raw, given ? `${at}.${name}` : at, fail);
    for (const column of given ? Object.keys(given) : []) {
      if (column === name || others.has(column) || encodings.some((e) => e.column === column)) continue;
      const known = [name, ...encodings.map((e) => e.column), ...others];
      const guess = nearest(column, known);
      fail(`${at}.${column}`, `unknown column${guess === undefined ? '' : `; did you mean '${guess}'?`}`, `Known: ${known.join(', ')}`);
    }
    const row = rows.get(key);
    const features: Record<string, unknown> = { [feature]: this.#vocabularies.get(feature)!.code(key) };
    for (const e of encodings) {
      const written = given !== undefined && Object.hasOwn(given, e.column) && !others.has(e.column);
      features[e.feature] = written || row === undefined ? this.#cell(e, written ? given[e.column] : undefined, `${at}.${e.column}`, fail) : columns[e.column]![row];
    }
    return { key, features };
  }

  /** As `encode` of prepare does it in SQL. */
  #cell(e: CellEncoding, value: unknown, at: string, fail: Fail): unknown {
    const missing = value === undefined || value === null || value === '';
    const number = (fits: (n: number) => boolean): number => {
      const n = typeof value === 'boolean' || typeof value === 'object' ? NaN : Number(value);
      return fits(n) ? n : fail(at, `expected a number, got ${show(value)}`);
    };
    switch (e.kind) {
      case 'number':
        return Math.fround(missing ? e.mean : number((n) => Number.isFinite(Math.fround(n))));
      case 'bucket': {
        if (missing) return 0;
        const n = number((x) => !Number.isNaN(x));
        return 1 + e.boundaries.filter((b) => n >= b).length;
      }
      case 'category':
        return missing ? 0 : this.#vocabularies.get(e.table)!.code(keyOf(value, at, fail));
      case 'set': {
        const words = this.#vocabularies.get(e.table)!;
        const members = missing ? [] : Array.isArray(value) ? value.map((v) => keyOf(v, at, fail)) : membersOf(keyOf(value, at, fail), e.separator ?? '|');
        return [...new Set(members.map((m) => words.code(m)))].filter((code) => code > 0).sort((a, b) => a - b);
      }
    }
  }
}

function keyOf(value: unknown, at: string, fail: Fail): string {
  if (typeof value === 'string' && value !== '') return value;
  if (typeof value === 'bigint' || typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value))) return String(value);
  return fail(at, value === undefined || value === null || value === '' ? 'is missing' : `expected a text or a number, got ${show(value)}`);
}
