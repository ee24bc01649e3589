import type { NegativeRule, SplitRule } from './prepare_options.ts';

/** SQL of `prepare`, one function a step, in DuckDB's dialect. Tables are named in the order they are made. */

export const identifier = (name: string): string => `"${name.replaceAll('"', '""')}"`;
export const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`;

/** A file as a relation: Parquet by its ending, anything else as CSV with a header, all columns text so that ids stay as written. */
export function source(path: string): string {
  return /\.(parquet|pq)$/i.test(path)
    ? `read_parquet(${literal(path)})`
    : `read_csv(${literal(path)}, header = true, all_varchar = true, nullstr = '')`;
}

/** Seconds, from a number of units (so many a second) or a timestamp; NULL where it is neither. */
export function seconds(column: string, type: string, unit: number): string {
  const c = identifier(column);
  const scale = unit === 1 ? '' : ` / ${unit}`;
  if (/^(TIMESTAMP|DATE)/i.test(type)) return `epoch(CAST(${c} AS TIMESTAMP))`;
  if (/^VARCHAR/i.test(type)) return `coalesce(TRY_CAST(${c} AS DOUBLE)${scale}, epoch(TRY_CAST(${c} AS TIMESTAMP)))`;
  return `CAST(${c} AS DOUBLE)${scale}`;
}

/** A number in [0, 1) from text: 53 bits of its MD5, the same in every version. */
export const uniform = (text: string): string => `(CAST(md5_number_lower(${text}) >> 11 AS DOUBLE) / 9007199254740992.0)`;

export interface RawColumns {
  readonly user: string;
  readonly item: string;
  /** SQL expressions, or NULL. */
  readonly time: string;
  readonly seq: string;
  readonly value: string;
  readonly action: string;
  readonly features: readonly { readonly name: string; readonly sql: string }[];
  /** What rules say of the row, by column, and the number of the rule whose column is no number. */
  readonly rules: readonly { readonly name: string; readonly sql: string }[];
  readonly noNumber: string;
}

/** raw(line, u, i, t, seq, value, action, x_<feature>, <rule>, no_number): the log as it stands, rows numbered in file order. */
export function createRaw(path: string, c: RawColumns): string {
  return `CREATE TABLE raw AS SELECT row_number() OVER () AS line,
    nullif(CAST(${identifier(c.user)} AS VARCHAR), '') AS u, nullif(CAST(${identifier(c.item)} AS VARCHAR), '') AS i,
    CAST(${c.time} AS DOUBLE) AS t, CAST(${c.seq} AS DOUBLE) AS seq, CAST(${c.value} AS DOUBLE) AS value, CAST(${c.action} AS VARCHAR) AS action
    ${c.features.map((f) => `, ${f.sql} AS ${identifier(`x_${f.name}`)}`).join('')}
    ${c.rules.map((r) => `, ${r.sql} AS ${r.name}`).join('')}, ${c.noNumber} AS no_number
    FROM ${source(path)}`;
}

/**
 * ordered: good rows with `t` (seconds, or the rank of seq or of the row within the user), `pos` (1, 2, … within the user by
 * t, seq, line), `past` (whether it enters histories), `before` (events of the user that do, at a strictly earlier t), `total` (events of the user), and the
 * labels, 0, 1 or NULL.
 * @param some whether some events enter histories, not all @param fault NULL for a good row, over raw
 */
export function createOrdered(clock: boolean, seq: boolean, labels: readonly string[], some: boolean, fault: string): string {
  const t = clock ? 't' : `CAST(dense_rank() OVER (PARTITION BY u ORDER BY ${seq ? 'seq' : 'line'}) AS DOUBLE)`;
  const told = (name: string): string => `CAST(${name} > 0 AS INTEGER)`;
  return `CREATE TABLE ordered AS SELECT *,
    row_number() OVER (PARTITION BY u ORDER BY t, seq, line) AS pos,
    ${some ? 'CAST(coalesce(sum(past) OVER (PARTITION BY u ORDER BY t RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP), 0) AS BIGINT)' : 'rank() OVER (PARTITION BY u ORDER BY t) - 1'} AS before,
    count(*) OVER (PARTITION BY u) AS total
    FROM (SELECT * REPLACE (${[`${t} AS t`, ...labels.map((name) => `${told(name)} AS ${name}`), ...(some ? [`${told('past')} AS past`] : [])].join(', ')})
      ${some ? '' : ', 1 AS past'} FROM raw WHERE (${fault}) IS NULL)`;
}

/** 0 train, 1 valid, 2 test, over ordered. Bounds are those of a split by time. */
export function partSql(split: SplitRule, bounds: { readonly valid: number; readonly test: number } | null): string {
  if (split.kind === 'time') return `CASE WHEN t >= ${bounds!.test} THEN 2 WHEN t >= ${bounds!.valid} THEN 1 ELSE 0 END`;
  const count = (n: number): string => (split.kind === 'leave-last-n' ? String(n) : `round_even(total * ${n}, 0)`);
  return `CASE WHEN pos > total - ${count(split.test)} THEN 2 WHEN pos > total - ${count(split.test)} - ${count(split.valid)} THEN 1 ELSE 0 END`;
}

/** A vocabulary table (key, code), codes 1, 2, … ; 0 is left for what is not in it. */
export function createCodes(name: string, keys: string, order: string): string {
  return `CREATE TABLE ${identifier(name)} AS SELECT key, CAST(row_number() OVER (ORDER BY ${order}) AS INTEGER) AS code FROM (${keys})`;
}

export interface TokenColumn {
  /** Name in the output, under `history.` and (item side only) `candidates.`. */
  readonly name: string;
  /** Expression over ordered (alias o), with the joins below. */
  readonly sql: string;
}

/** tokens: one row an event with its encoded features, `part` 0..2. */
export function createTokens(columns: readonly TokenColumn[], labels: readonly string[], joins: string, part: string): string {
  return `CREATE TABLE tokens AS SELECT o.u, o.i, o.t, o.pos, o.past, o.before, o.part${labels.map((name) => `, o.${name}`).join('')}
    ${columns.map((c) => `, ${c.sql} AS ${identifier(`f_${c.name}`)}`).join('')}
    FROM (SELECT *, ${part} AS part FROM ordered) o ${joins}`;
}

/** A share of the users. DuckDB holds ordered lists in memory until all are made, so they are made for one share after another. */
export interface Share {
  readonly index: number;
  readonly count: number;
}

const into = (table: string, { index }: Share): string => (index === 0 ? `CREATE TABLE ${table} AS` : `INSERT INTO ${table}`);
const inShare = (user: string, { index, count }: Share): string => `hash(${user}) % ${count} = ${index}`;

/** histories: one row a user with the features of all events, or of `some`, as lists, oldest first. */
export function addHistories(columns: readonly TokenColumn[], share: Share, some: boolean): string {
  const list = (column: string): string => (some ? `coalesce(list(${column} ORDER BY pos) FILTER (WHERE past = 1), [])` : `list(${column} ORDER BY pos)`);
  return `${into('histories', share)} SELECT u, ${list('t')} AS t
    ${columns.map((c) => `, ${list(identifier(`f_${c.name}`))} AS ${identifier(`f_${c.name}`)}`).join('')}
    FROM tokens WHERE ${inShare('u', share)} GROUP BY u`;
}

/** Whether an event is positive for some task; NULL counts for nothing. */
const anyPositive = (labels: readonly string[]): string => `greatest(${labels.join(', ')}) = 1`;

/** picked(request, u, part, i, t, pos, before, <label>, run): the events that are candidates, with the request they belong to. */
export function createPicked(labels: readonly string[], grouping: 'run' | 'time', train: number, evaluation: number, positivesOnly: boolean): string {
  const size = `(CASE WHEN part = 0 THEN ${train} ELSE ${evaluation} END)`;
  const group = grouping === 'time' ? 'u, part, t' : 'u, part';
  return `CREATE TABLE picked AS SELECT dense_rank() OVER (ORDER BY u, part, ${grouping === 'time' ? 't, ' : ''}run) AS request, * FROM (
    SELECT u, part, i, t, pos, before, ${labels.join(', ')}, (row_number() OVER (PARTITION BY ${group} ORDER BY pos) - 1) // ${size} AS run
    FROM tokens ${positivesOnly ? `WHERE ${anyPositive(labels)}` : ''})`;
}

/**
 * Adds sampled items to picked, each item once a request, negative for every task. Every positive has 2 n + 8 draws; a request falls short of n a
 * positive only where so many draws do not hit enough different items.
 */
export function sampleNegatives(rule: NegativeRule & { kind: 'popularity' }, labels: readonly string[], seed: number): string[] {
  const n = rule.perPositive;
  const tries = n * 2 + 8;
  return [
    `CREATE TABLE popularity AS SELECT i, (sum(w) OVER (ORDER BY i ROWS UNBOUNDED PRECEDING) - w) / sum(w) OVER () AS start
      FROM (SELECT i, power(count(*), ${rule.exponent ?? 1}) AS w FROM tokens WHERE part = 0 AND ${anyPositive(labels)} GROUP BY i)`,
    `CREATE TABLE draws AS SELECT d.*, p.i FROM (
        SELECT request, u, part, t, pos, before, j, ${uniform(`concat(${seed}, ':', u, ':', pos, ':', j)`)} AS x
        FROM picked, range(${tries}) AS r(j)) d ASOF JOIN popularity p ON d.x >= p.start`,
    `INSERT INTO picked SELECT request, u, part, i, t, pos, before, ${labels.map(() => '0').join(', ')}, 0 AS run FROM (
        SELECT d.*, row_number() OVER (PARTITION BY d.request ORDER BY j, pos) AS nth FROM (
          SELECT * FROM draws QUALIFY row_number() OVER (PARTITION BY request, i ORDER BY j, pos) = 1) d
          ANTI JOIN picked k ON d.request = k.request AND d.i = k.i) n
      JOIN (SELECT request, count(*) AS positives FROM picked GROUP BY request) c USING (request)
      WHERE nth <= ${n} * positives`,
  ];
}

/** requests: one row a request with its candidates as lists. Sampled candidates stand in a seeded random order. */
export function addRequests(columns: readonly TokenColumn[], labels: readonly string[], joins: string, seed: number, sampled: boolean, minHistory: number, share: Share): string {
  const order = sampled ? uniform(`concat(${seed}, ':', o.request, ':', o.i)`) : 'o.pos';
  return `${into('requests', share)} SELECT o.request, o.u, o.part, min(o.t) AS t, min(o.pos) AS pos, min(o.before) AS before,
      ${labels.map((name) => `list(o.${name} ORDER BY ${order}) AS ${name}`).join(', ')}
      ${columns.map((c) => `, list(${c.sql} ORDER BY ${order}) AS ${identifier(`c_${c.name}`)}`).join('')},
      md5(concat(${seed}, ':', o.u, ':', min(o.pos))) AS shuffle
    FROM picked o ${joins} WHERE ${inShare('o.u', share)} GROUP BY o.request, o.u, o.part HAVING min(o.before) >= ${minHistory}`;
}

export interface OutputColumns {
  readonly user: readonly TokenColumn[];
  readonly userJoins: string;
  readonly history: readonly TokenColumn[];
  readonly candidate: readonly TokenColumn[];
  /** SQL columns of the labels by task. */
  readonly labels: readonly { readonly task: string; readonly name: string }[];
}

/** places(request, place): where the requests of a part stand in its file, from 0. Those to train on are shuffled. */
export function createPlaces(part: number): string {
  return `CREATE OR REPLACE TABLE places AS SELECT request, row_number() OVER (ORDER BY ${part === 0 ? 'shuffle, request' : 'request'}) - 1 AS place FROM requests WHERE part = ${part}`;
}

const asParquet = (path: string): string => `TO ${literal(path)} (FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE ${rowGroup})`;
export const rowGroup = 2048;

/**
 * Writes the requests of `places` from one place to before another. The history of a request is the newest `length` of the user's events at a strictly earlier
 * time; `historyStart` is how many there were before them.
 */
export function copyPlaces(from: number, to: number, path: string, length: number, c: OutputColumns): string {
  const slice = (list: string): string => `list_slice(h.${list}, greatest(1, r.before - ${length} + 1), r.before)`;
  return `COPY (SELECT concat(r.u, ':', r.pos) AS id, r.u AS user_id
    ${c.user.map((f) => `, ${f.sql} AS ${identifier(`user.${f.name}`)}`).join('')}, r.t AS time, CAST(greatest(0, r.before - ${length}) AS INTEGER) AS "historyStart"
    ${c.history.map((f) => `, ${slice(identifier(`f_${f.name}`))} AS ${identifier(`history.${f.name}`)}`).join('')}, ${slice('t')} AS "history.time"
    ${c.candidate.map((f) => `, r.${identifier(`c_${f.name}`)} AS ${identifier(`candidates.${f.name}`)}`).join('')}${c.labels.map((l) => `, r.${l.name} AS ${identifier(`labels.${l.task}`)}`).join('')}
    FROM (SELECT * FROM requests JOIN places USING (request) WHERE place >= ${from} AND place < ${to}) r JOIN histories h ON r.u = h.u ${c.userJoins}
    ORDER BY r.place) ${asParquet(path)}`;
}

/** One file of the rows of several, in their order. */
export const copyFiles = (files: readonly string[], path: string): string => `COPY (FROM read_parquet([${files.map(literal).join(', ')}])) ${asParquet(path)}`;

/** The features of a side table by key. */
export const copySide = (table: string, path: string): string => `COPY (FROM ${identifier(table)} ORDER BY key) ${asParquet(path)}`;

/** One row: requests, candidates, users, history mean, median and max, and for each label how many there are and are positive. */
export function partStatsSql(part: number, length: number, labels: readonly string[]): string {
  const sums = labels.map((name) => `coalesce(sum(len(list_filter(${name}, lambda x: x IS NOT NULL))), 0) AS ${name}_labelled, coalesce(sum(list_sum(${name})), 0) AS ${name}_positive,`);
  return `SELECT count(*) AS requests, coalesce(sum(len(c_item)), 0) AS candidates, ${sums.join(' ')}
    count(DISTINCT u) AS users, avg(least(before, ${length})) AS mean, median(least(before, ${length})) AS median, max(least(before, ${length})) AS most,
    coalesce(sum(len(list_filter(c_item, lambda x: x = 0))), 0) AS unknown FROM requests WHERE part = ${part}`;
}
