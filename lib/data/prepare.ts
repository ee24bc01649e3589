import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve, basename } from 'node:path';
import { finished } from 'node:stream/promises';
import { DuckDBInstance, type DuckDBConnection } from '@duckdb/node-api';
import { LongerError } from '../errors.ts';
import { cellEncoding, type CellEncoding, type CatalogFile, shortened } from './catalog_file.ts';
import { describe, encode, encodeSide, joined, profile, rows, tableName, tableSize, type Encoding } from './prepare_features.ts';
import { countBadRows, faults, faultSql } from './prepare_bad_rows.ts';
import { checkPrepareOptions } from './prepare_check.ts';
import { askedOf, fewValues, readAsOf } from './prepare_read_as.ts';
import { textSql } from './cell_lists.ts';
import { type ColumnRule, expectActions, historyRule, labelRules, labelWarnings, noNumberSql, ruleSql } from './prepare_labels.ts';
import { type OptionNames, partNames, perSecond, type PartName, type PartStats, type PrepareOptions, type PrepareStats, type ReadAs, type SplitRule } from './prepare_options.ts';
import * as sql from './prepare_sql.ts';
import type { Feature } from '../schema/features.ts';
import { schemaFromJSON, type TableSpec } from '../schema/schema.ts';
import { nearest } from '../schema/suggest.ts';
import { lastTime } from '../schema/times.ts';

export type { EventRule, LabelRule, PrepareOptions, PrepareStats, ReadAs } from './prepare_options.ts';

/** What is held in memory at a time: events of a share of the users, and numbers in the histories of requests that are sorted. The files are the same for any. */
export interface Pieces {
  readonly shareEvents?: number;
  readonly historyNumbers?: number;
}

/**
 * Turns an event log into request datasets: train.parquet, valid.parquet and test.parquet (parts without requests are
 * left out), schema.json, stats.json and a catalog (catalog.json, vocabulary.json, users.parquet, items.parquet), in a directory that appears whole or not
 * at all.
 *
 * A request is one user, one time and up to C candidates. Its time is that of its first event, and its history every
 * event of the user (that `history` names) at a strictly earlier time: events of equal time never stand in each other's history, nor does
 * anything later, whatever the split. Order within a user is time, then seq, then place in the file; without a clock the
 * time is the rank of seq (or of the row) within the user. Ids and categories become codes 1, 2, …; user and item codes
 * are made from the training part alone, 0 is whatever it lacks.
 *
 * A candidate has a label a task, as `labels` says; with sampled negatives an event is a candidate where it is positive for some task.
 *
 * @param named what options are called in errors, where they did not come as an object
 * @throws LongerError ERR_CONFIG for options that do not fit together, ERR_DATA for a file or row that cannot be used, ERR_MEMORY where the memory limit
 *   does not do.
 */
export async function prepare(options: PrepareOptions, pieces: Pieces = {}, named: OptionNames = (option) => option): Promise<PrepareStats> {
  checkPrepareOptions(options, named);
  const output = resolve(options.output);
  if (options.overwrite !== true && (await readdir(output).catch(() => [])).length > 0)
    throw new LongerError('ERR_CONFIG', 'the output directory is not empty', { place: output, remedy: `Choose another one, or replace it (${named('overwrite')})` });
  const working = join(dirname(output), `.preparing-${process.pid}-${basename(output)}`);
  await rm(working, { recursive: true, force: true });
  await mkdir(join(working, 'dataset'), { recursive: true });
  try {
    const instance = await DuckDBInstance.create(join(working, 'work.duckdb'), {
      ...(options.memoryLimit === undefined ? {} : { memory_limit: options.memoryLimit }),
      ...(options.threads === undefined ? {} : { threads: String(options.threads) }),
      temp_directory: join(working, 'spill'),
    });
    const connection = await instance.connect();
    let stats: PrepareStats;
    try {
      stats = await new Preparation(connection, options, join(working, 'dataset'), pieces, named).run();
    } finally {
      connection.closeSync();
      instance.closeSync();
    }
    await rm(output, { recursive: true, force: true });
    await rename(join(working, 'dataset'), output);
    return stats;
  } catch (cause) {
    if (cause instanceof LongerError) throw cause;
    const [said] = (cause as Error).message.split('\n');
    if (/^Out of Memory Error/.test(said!))
      throw new LongerError('ERR_MEMORY', said!, { place: options.events, remedy: `Raise the limit (${named('memoryLimit')}), or prepare with fewer threads (${named('threads')}) or shorter histories (${named('historyLength')})`, cause });
    throw new LongerError('ERR_DATA', said!, { place: options.events, cause });
  } finally {
    await rm(working, { recursive: true, force: true });
  }
}

/** Plural of what a row is about. */
type TableName = 'users' | 'items' | 'events';

/** A raw column and how it becomes numbers. */
type Encoded = readonly [string, Encoding];

/** One run over one DuckDB connection. */
class Preparation {
  readonly #db: DuckDBConnection;
  readonly #options: PrepareOptions;
  readonly #directory: string;
  readonly #pieces: Required<Pieces>;
  readonly #named: OptionNames;
  readonly #labels: readonly ColumnRule[];
  readonly #leftOut: string[] = [];
  /** Types of the columns of the log and the side tables, in their files. */
  readonly #types = new Map<TableName, ReadonlyMap<string, string>>();
  /** How columns are to be read, and are, by `table.column`. */
  #asked: ReadonlyMap<string, ReadAs> = new Map();
  readonly #readAs: Record<string, ReadAs> = {};
  /** Names of the vocabulary tables. */
  readonly #vocabularies: string[] = [];

  constructor(connection: DuckDBConnection, options: PrepareOptions, directory: string, { shareEvents = 2_000_000, historyNumbers = 64_000_000 }: Pieces, named: OptionNames) {
    this.#named = named;
    this.#labels = labelRules(options);
    this.#pieces = { shareEvents, historyNumbers };
    this.#db = connection;
    this.#options = options;
    this.#directory = directory;
  }

  async run(): Promise<PrepareStats> {
    const o = this.#options;
    const labels = this.#labels.map(({ name }) => name);
    await this.#columns();
    const { clock, badRows } = await this.#load();
    const part = sql.partSql(o.split, o.split.kind === 'time' ? await this.#bounds(o.split) : null);
    await this.#db.run(`CREATE VIEW training AS SELECT * FROM (SELECT *, ${part} AS part FROM ordered) WHERE part = 0`);
    await this.#codes('user', 'u');
    await this.#codes('item', 'i');
    const names = { user: o.columns.user, item: o.columns.item };
    const item = await this.#side('item', o.items, names.item, o.itemFeatures);
    const user = await this.#side('user', o.users, names.user, o.userFeatures);
    const event = await this.#eventEncodings();
    const itemColumns: sql.TokenColumn[] = [{ name: 'item', sql: 'coalesce(ic.code, 0)' }, ...item.map(([c, e]) => joined('si', c, e))];
    const itemJoins = `LEFT JOIN codes_item ic ON o.i = ic.key ${item.length > 0 ? 'LEFT JOIN side_item si ON o.i = si.key' : ''}`;
    const encoded = event.map(([x, e], i) => ({ name: e.name, ...encode('o', x, 'ordered', e, `ev${i}`) }));
    const historyColumns: sql.TokenColumn[] = [...itemColumns, ...encoded];
    const duplicate = historyColumns.map((c) => c.name).find((n, i, all) => n === 'time' || all.indexOf(n) !== i);
    if (duplicate !== undefined) throw new LongerError('ERR_CONFIG', `two event features are called ${JSON.stringify(duplicate)}`, { place: this.#named('eventFeatures') });
    const sampled = o.negatives?.kind === 'popularity';
    await this.#db.run(sql.createTokens(historyColumns, labels, `${itemJoins} ${encoded.map((c) => c.join).join(' ')}`, part));
    const [{ n: events }] = (await rows(this.#db, 'SELECT count(*) AS n FROM tokens')) as [{ n: number }];
    const count = Math.max(1, Math.ceil(events / this.#pieces.shareEvents));
    const shares = Array.from({ length: count }, (_, index): sql.Share => ({ index, count }));
    for (const share of shares) await this.#db.run(sql.addHistories(historyColumns, share, o.history !== undefined));
    const size = o.candidates ?? 16;
    await this.#db.run(sql.createPicked(labels, o.grouping ?? 'run', size, o.evaluationCandidates ?? size, sampled));
    if (o.negatives?.kind === 'popularity') for (const step of sql.sampleNegatives(o.negatives, labels, o.seed ?? 1)) await this.#db.run(step);
    for (const share of shares) await this.#db.run(sql.addRequests(itemColumns, labels, itemJoins, o.seed ?? 1, sampled, o.minHistory ?? 0, share));
    const length = o.historyLength ?? 2000;
    const output: sql.OutputColumns = {
      user: [{ name: 'user', sql: 'coalesce(uc.code, 0)' }, ...user.map(([c, e]) => joined('su', c, e))],
      userJoins: `LEFT JOIN codes_user uc ON r.u = uc.key ${user.length > 0 ? 'LEFT JOIN side_user su ON r.u = su.key' : ''}`,
      history: historyColumns, candidate: itemColumns, labels: Object.keys(o.labels).map((task, i) => ({ task, name: labels[i]! })),
    };
    const parts: Partial<Record<PartName, PartStats>> = {};
    for (const [index, name] of partNames.entries()) {
      const found = await this.#partStats(index, length);
      if (found === null) continue;
      parts[name] = found;
      await this.#db.run(sql.createPlaces(index));
      await this.#write(join(this.#directory, `${name}.parquet`), found, length, output);
    }
    if (parts.train === undefined) throw new LongerError('ERR_DATA', 'no request is left to train on', { place: o.events, remedy: `Look at the split (${this.#named('split')}) and at what makes a request${o.minHistory === undefined ? '' : ` (${this.#named('minHistory')})`}` });
    const catalog = await this.#writeCatalog(clock, user, item, event);
    await this.#writeJson('schema.json', await this.#schema(clock, user, item, event, catalog));
    const [counted] = await rows(this.#db, 'SELECT count(DISTINCT u) AS users, count(DISTINCT i) AS items FROM tokens');
    const stats: PrepareStats = {
      events, users: counted!['users'] as number, items: counted!['items'] as number,
      clock: clock ? 'seconds' : 'order', badRows, parts, readAs: this.#readAs, leftOut: this.#leftOut, warnings: labelWarnings(parts.train, this.#named),
    };
    await this.#writeJson('stats.json', stats);
    return stats;
  }

  /** Every request brings its history, and what is sorted is held in memory: so a part is sorted and written by pieces, which are then joined. */
  async #write(path: string, { requests, history }: PartStats, length: number, output: sql.OutputColumns): Promise<void> {
    const numbers = (1 + history.mean) * (1 + output.history.length);
    const most = sql.rowGroup * Math.max(1, Math.floor(this.#pieces.historyNumbers / numbers / sql.rowGroup));
    if (requests <= most) return void (await this.#db.run(sql.copyPlaces(0, requests, path, length, output)));
    const pieces: string[] = [];
    for (let from = 0; from < requests; from += most) {
      pieces.push(`${path}.${pieces.length}`);
      await this.#db.run(sql.copyPlaces(from, from + most, pieces.at(-1)!, length, output));
    }
    await this.#db.run(sql.copyFiles(pieces, path));
    await Promise.all(pieces.map((piece) => rm(piece)));
  }

  /** Widths of the tables are a starting point to edit: 32 for items, 16 for users and large categories, 8 for small ones. */
  async #schema(clock: boolean, user: readonly Encoded[], item: readonly Encoded[], event: readonly Encoded[], catalog: string) {
    const tables: Record<string, TableSpec> = {
      user: { size: await tableSize(this.#db, 'codes_user'), width: 16 },
      item: { size: await tableSize(this.#db, 'codes_item'), width: 32 },
    };
    const features = (id: string | null, list: readonly Encoded[]): Record<string, Feature> => {
      const described: Record<string, Feature> = id === null ? {} : { [id]: { type: 'id', table: id } };
      for (const [, encoding] of list) {
        const { feature, table } = describe(encoding);
        described[encoding.name] = feature;
        if (table !== null) tables[table[0]] = table[1];
      }
      return described;
    };
    return schemaFromJSON({
      version: 1, tables, user: features('user', user), event: { ...features('item', item), ...features(null, event) },
      candidate: features('item', item), labels: Object.fromEntries(Object.keys(this.#options.labels).map((task) => [task, { weight: 1 }])), time: clock, catalog,
    });
  }

  /** Reads the log into raw and ordered. */
  async #load(): Promise<{ clock: boolean; badRows: number }> {
    const { events, columns, eventFeatures = [] } = this.#options;
    const history = historyRule(this.#options);
    const rules = history ? [...this.#labels, history] : this.#labels;
    const types = await this.#columnTypes(events);
    this.#types.set('events', types);
    const uses: (readonly [option: string, column: string])[] = [
      ...Object.entries(columns).map(([name, column]) => [`columns.${name}`, column] as const), ...eventFeatures.map((column) => ['eventFeatures', column] as const),
      ...rules.flatMap(({ option, column }) => (column === null ? [] : [[option, column] as const])),
    ];
    for (const [option, column] of uses) this.#expectColumn(types, column, events, option);
    const number = (name: string | undefined): string => (name === undefined ? 'NULL' : `TRY_CAST(${sql.identifier(name)} AS DOUBLE)`);
    await this.#db.run(sql.createRaw(events, {
      user: columns.user, item: columns.item, features: eventFeatures.map((name) => ({ name, sql: textSql(sql.identifier(name), types.get(name)!) })),
      time: columns.time === undefined ? 'NULL' : sql.seconds(columns.time, types.get(columns.time)!, perSecond[this.#options.timeUnit ?? 's']),
      seq: number(columns.seq), value: number(columns.value),
      action: columns.action === undefined ? 'NULL' : sql.identifier(columns.action),
      rules: rules.map((rule) => ({ name: rule.name, sql: ruleSql(rule) })), noNumber: noNumberSql(rules),
    }));
    const written = columns.time === undefined ? 'false' : 'true';
    const [filled] = await rows(this.#db, `SELECT count(*) AS n, ${written} AND count(t) > 0 AS clock FROM raw`);
    if (filled!['n'] === 0) throw new LongerError('ERR_DATA', 'it has no rows', { place: events });
    await expectActions(this.#db, events, rules, this.#named);
    const clock = filled!['clock'] as boolean;
    if (!clock && this.#options.split.kind === 'time')
      throw new LongerError('ERR_DATA', `no row has a time in the column ${JSON.stringify(columns.time)}, so it cannot be split by time`, { place: events, remedy: `Split by leave-last-fraction or leave-last-n (${this.#named('split')})` });
    const [late] = clock ? await rows(this.#db, `SELECT max(t) AS last FROM raw WHERE isfinite(t)`) : [];
    if (late !== undefined && (late['last'] as number) > lastTime)
      throw new LongerError('ERR_DATA', `the last time, ${String(late['last'])} s, lies past the year 5000`, { place: events, remedy: `Say what its numbers count, as milliseconds (${this.#named('timeUnit')} ms)` });
    const list = faults(this.#options, clock, this.#labels, history);
    const badRows = await countBadRows(this.#db, this.#options, list, this.#named);
    await this.#db.run(sql.createOrdered(clock, columns.seq !== undefined, this.#labels.map(({ name }) => name), history !== undefined, faultSql(list)));
    return { clock, badRows };
  }

  /** @throws LongerError ERR_DATA naming the column that was meant, where one is near */
  #expectColumn(types: ReadonlyMap<string, string>, column: string, path: string, option: string): void {
    if (types.has(column)) return;
    const names = [...types.keys()];
    const guess = nearest(column, names);
    throw new LongerError('ERR_DATA', `has no column ${JSON.stringify(column)} (${this.#named(option)})${guess === undefined ? '' : `; did you mean ${JSON.stringify(guess)}?`}`, { place: path, remedy: `Its columns are ${names.join(', ')}` });
  }

  async #columnTypes(path: string): Promise<Map<string, string>> {
    try {
      const found = await rows(this.#db, `DESCRIBE SELECT * FROM ${sql.source(path)}`);
      return new Map(found.map((r) => [String(r['column_name']), String(r['column_type'])]));
    } catch (cause) {
      throw new LongerError('ERR_DATA', `cannot be read: ${(cause as Error).message.split('\n')[0]}`, { place: path, cause });
    }
  }

  async #bounds(split: SplitRule & { kind: 'time' }): Promise<{ valid: number; test: number }> {
    if (!('fractions' in split)) return { valid: split.validFrom ?? split.testFrom, test: split.testFrom };
    const [train, valid] = split.fractions;
    const at = (share: number): string => (share >= 1 ? `1e308` : `quantile_disc(t, ${share})`);
    const [found] = await rows(this.#db, `SELECT ${at(train)} AS valid, ${at(Math.min(1, train + valid + (split.fractions[2] === 0 ? 1 : 0)))} AS test FROM ordered`);
    return { valid: Number(found!['valid']), test: Number(found!['test']) };
  }

  async #codes(name: 'user' | 'item', column: string): Promise<void> {
    const codes = `codes_${name}`;
    await this.#db.run(sql.createCodes(codes, `SELECT ${column} AS key, count(*) AS n FROM training GROUP BY ${column}`, 'n DESC, key'));
    this.#vocabularies.push(codes);
  }

  async #side(side: 'user' | 'item', path: string | undefined, key: string, asked: readonly string[] | undefined): Promise<(readonly [string, Encoding])[]> {
    if (path === undefined) return [];
    const types = this.#types.get(`${side}s`)!;
    await this.#db.run(`CREATE TABLE raw_${side} AS SELECT ${[...types].map(([c, type]) => `${textSql(sql.identifier(c), type)} AS ${sql.identifier(c)}`).join(', ')} FROM ${sql.source(path)}`);
    const encodings: [string, Encoding][] = [];
    for (const column of asked ?? [...types.keys()].filter((c) => c !== key)) {
      const read = this.#asked.get(`${side}s.${column}`) ?? (await readAsOf(this.#db, `raw_${side}`, column, column, types.get(column)!)) ?? (asked === undefined ? null : 'id');
      if (read === null) this.#leftOut.push(`${side}.${column}`);
      else await this.#encoding(encodings, `${side}s`, column, `raw_${side}`, column, column === side ? `${column}_` : column, `codes_${side}_${column}`, read);
    }
    await encodeSide(this.#db, `raw_${side}`, key, `side_${side}`, encodings);
    return encodings;
  }

  /** Encodings of value, action and further columns of the log, by their column in ordered. */
  async #eventEncodings(): Promise<[string, Encoding][]> {
    const { columns, eventFeatures = [] } = this.#options;
    const encodings: [string, Encoding][] = [];
    const add = (raw: string, column: string, codes: string, read: ReadAs): Promise<void> => this.#encoding(encodings, 'events', column, 'training', raw, column, `codes_event_${read === 'buckets' ? column : codes}`, read);
    const kinds = async (column: string): Promise<number> => (await rows(this.#db, `SELECT count(DISTINCT ${column}) AS n FROM training`))[0]!['n'] as number;
    const byDefault = async (raw: string, column: string): Promise<ReadAs> => (await readAsOf(this.#db, 'training', raw, column, this.#types.get('events')!.get(column)!)) ?? 'id';
    const asked = (column: string): ReadAs | undefined => this.#asked.get(`events.${column}`);
    if (columns.value !== undefined) await add('value', columns.value, 'value', asked(columns.value) ?? ((await kinds('value')) <= fewValues ? 'id' : 'buckets'));
    if (columns.action !== undefined && (await kinds('action')) > 1) await add('action', columns.action, 'action', asked(columns.action) ?? (await byDefault('action', columns.action)));
    for (const f of eventFeatures) await add(`x_${f}`, f, `x_${f}`, asked(f) ?? (await byDefault(`x_${f}`, f)));
    return encodings;
  }

  /** Adds what a column becomes, if it holds anything, under the name of its raw column. */
  async #encoding(to: [string, Encoding][], table: TableName, column: string, relation: string, raw: string, name: string, codes: string, read: ReadAs): Promise<void> {
    this.#readAs[`${table}.${column}`] = read;
    if (read === 'none') return;
    const place = `${this.#options[table] ?? table}, column ${column}`;
    const encoding = await profile(this.#db, relation, raw, name, codes, read, this.#types.get(table)!.get(column)!, place);
    if (encoding === null) return;
    to.push([raw, encoding]);
    if (encoding.kind === 'category' || encoding.kind === 'set') this.#vocabularies.push(codes);
  }

  /** The columns of the side tables, and what was asked of all. */
  async #columns(): Promise<void> {
    const { columns, eventFeatures = [], readAs = {}, ...o } = this.#options;
    for (const [side, path, asked] of [['user', o.users, o.userFeatures], ['item', o.items, o.itemFeatures]] as const) {
      if (path === undefined) continue;
      const types = await this.#columnTypes(path);
      this.#expectColumn(types, columns[side], path, `columns.${side}`);
      for (const name of asked ?? []) this.#expectColumn(types, name, path, `${side}Features`);
      this.#types.set(`${side}s`, types);
    }
    const events = [...new Set([...[columns.value, columns.action].filter((c) => c !== undefined), ...eventFeatures])];
    const of = (side: 'user' | 'item'): readonly string[] => [...(this.#types.get(`${side}s`)?.keys() ?? [])].filter((c) => c !== columns[side]);
    this.#asked = askedOf(readAs, [{ table: 'users', columns: of('user') }, { table: 'items', columns: of('item') }, { table: 'events', columns: events }], this.#named);
  }

  async #partStats(part: number, length: number): Promise<PartStats | null> {
    const [s] = (await rows(this.#db, sql.partStatsSql(part, length, this.#labels.map(({ name }) => name)))) as Record<string, number>[];
    if (s!['requests'] === 0) return null;
    return {
      requests: s!['requests']!, candidates: s!['candidates']!, users: s!['users']!,
      tasks: Object.fromEntries(Object.keys(this.#options.labels).map((task, i) => [task, { labelled: s![`l${i}_labelled`]!, positive: s![`l${i}_positive`]! }])),
      history: { mean: s!['mean']!, median: s!['median']!, max: s!['most']! }, unknownItems: s!['unknown']! / s!['candidates']!,
    };
  }

  async #writeJson(name: string, value: unknown): Promise<string> {
    const text = `${JSON.stringify(value, null, 2)}\n`;
    await writeFile(join(this.#directory, name), text);
    return text;
  }

  /** What requests in the log's terms need: catalog.json, vocabulary.json and the side tables' features by key. @returns the fingerprint */
  async #writeCatalog(clock: boolean, user: readonly Encoded[], item: readonly Encoded[], event: readonly Encoded[]): Promise<string> {
    const { columns } = this.#options;
    const side = (list: readonly Encoded[]): CellEncoding[] => list.map(([column, e]) => cellEncoding(column, e));
    const file: CatalogFile = {
      version: 1, columns: { user: columns.user, item: columns.item, time: clock ? columns.time! : null }, timeUnit: this.#options.timeUnit ?? 's',
      user: side(user), item: side(item), event: event.map(([, e]) => cellEncoding(e.name, e)),
    };
    for (const [name, list] of [['user', user], ['item', item]] as const)
      if (list.length > 0) await this.#db.run(sql.copySide(`side_${name}`, join(this.#directory, `${name}s.parquet`)));
    const hash = createHash('sha256').update(await this.#writeJson('catalog.json', file)).update('\0');
    await this.#writeVocabulary((text) => hash.update(text));
    return shortened(hash);
  }

  /** { table: [key of code 1, key of code 2, …] }, streamed: a vocabulary may be larger than a string can be. */
  async #writeVocabulary(told: (text: string) => void): Promise<void> {
    const out = createWriteStream(join(this.#directory, 'vocabulary.json'));
    const lines = async function* (this: Preparation): AsyncGenerator<string> {
      yield '{';
      let first = true;
      for (const codes of this.#vocabularies) {
        yield `${first ? '' : ','}\n${JSON.stringify(tableName(codes))}: [`;
        first = false;
        const result = await this.#db.stream(`SELECT key FROM ${sql.identifier(codes)} ORDER BY code`);
        let comma = '';
        for (let chunk = await result.fetchChunk(); chunk !== null && chunk.rowCount > 0; chunk = await result.fetchChunk()) {
          yield comma + chunk.getColumnValues(0).map((key) => JSON.stringify(key)).join(',');
          comma = ',';
        }
        yield ']';
      }
      yield '\n}\n';
    };
    for await (const text of lines.call(this)) {
      told(text);
      if (!out.write(text)) await once(out, 'drain');
    }
    out.end();
    await finished(out);
  }
}
