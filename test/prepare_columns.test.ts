import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import t, { type Test } from 'tap';
import { Catalog } from '../lib/data/catalog.ts';
import { bracketed, listSeparator, membersOf, membersSql } from '../lib/data/cell_lists.ts';
import { prepare, type PrepareOptions, type PrepareStats } from '../lib/data/prepare.ts';

const words = ['war', 'love', 'crime', 'space'];
const pick = (i: number, n: number): string[] => Array.from({ length: n }, (_, j) => words[(i + j * (1 + (i % 3))) % words.length]!).filter((w, j, all) => all.indexOf(w) === j);
const count = 120;
/** One row an item, a column for each thing that a column may be. */
const item = (i: number) => ({
  item: `i${i}`, author_id: 7 * i + 3, price: 10 * i, tags: pick(i, 1 + (i % 3)).join(', '), kinds: pick(i, 1 + (i % 2)).join('; '), genres: pick(i, 1 + (i % 2)).join('|'),
  python: `['${pick(i, 1 + (i % 3)).join("', '")}']`, range: ['0', '(0,10]', '(10,50]'][i % 3]!, thousands: `${1 + i},000`, title: `The ${i}, or a tale of ${i + 1}`, plain: words[i % 4]!,
});
type Item = ReturnType<typeof item>;
const items = Array.from({ length: count }, (_, i) => item(i));
const csv = (rows: readonly object[]): string => [Object.keys(rows[0]!).join(','), ...rows.map((r) => Object.values(r).map((v) => `"${v}"`).join(','))].join('\n') + '\n';

async function files(t: Test): Promise<(more?: Partial<PrepareOptions>, users?: boolean) => Promise<{ stats: PrepareStats; dir: string }>> {
  const dir = t.testdir();
  const log = Array.from({ length: 600 }, (_, i) => ({ user: `u${i % 10}`, item: `i${(i * 7) % count}`, time: i, value: 1 + (i % 5), watched: i, item_code: 100 + i }));
  await writeFile(join(dir, 'log.csv'), csv(log));
  await writeFile(join(dir, 'items.csv'), csv(items));
  await writeFile(join(dir, 'users.csv'), 'user,plain\nu1,x\n');
  let run = 0;
  return async (more = {}, users = false) => {
    const output = join(dir, `out${run++}`);
    const stats = await prepare({
      events: join(dir, 'log.csv'), items: join(dir, 'items.csv'), output, columns: { user: 'user', item: 'item', time: 'time', value: 'value' }, eventFeatures: ['watched', 'item_code'],
      labels: { label: { kind: 'value', atLeast: 4 } }, split: { kind: 'leave-last-fraction', valid: 0, test: 0.1 }, threads: 1, ...(users ? { users: join(dir, 'users.csv') } : {}), ...more,
    });
    return { stats, dir: output };
  };
}

await t.test('how columns are read where nothing is said', async (t) => {
  const { stats } = await (await files(t))();
  t.same(stats.readAs, {
    'items.author_id': 'id', 'items.price': 'number', 'items.tags': 'ids:,', 'items.kinds': 'ids:;', 'items.genres': 'ids', 'items.python': 'ids:[]', 'items.range': 'id', 'items.plain': 'id',
    'events.value': 'id', 'events.watched': 'number', 'events.item_code': 'id',
  });
  t.same(stats.leftOut, ['item.thousands', 'item.title']);
});

await t.test('the same again, as asked, and otherwise', async (t) => {
  const run = await files(t);
  const [first, again] = [await run(), await run({ readAs: { 'items.thousands': 'none', title: 'none' } })];
  const asked = await run({ readAs: { ...first.stats.readAs, 'items.thousands': 'none', 'items.title': 'none' } });
  t.same(asked.stats.readAs, again.stats.readAs);
  t.equal(await readFile(join(asked.dir, 'train.parquet'), 'latin1'), await readFile(join(again.dir, 'train.parquet'), 'latin1'));
  t.equal(await readFile(join(asked.dir, 'catalog.json'), 'utf8'), await readFile(join(first.dir, 'catalog.json'), 'utf8'));
  const { dir } = await run({ readAs: { author_id: 'number', price: 'buckets', tags: 'id', title: 'ids: ', thousands: 'id', value: 'number', watched: 'buckets', plain: 'none', item_code: 'none' } });
  const schema = JSON.parse(await readFile(join(dir, 'schema.json'), 'utf8')) as Record<string, Record<string, { type: string; table?: string; size?: number }>>;
  t.match(schema['candidate'], { author_id: { type: 'numeric' }, price: { type: 'id', table: 'item_price' }, tags: { type: 'id' }, title: { type: 'ids' }, thousands: { type: 'id' } });
  t.notOk('plain' in schema['candidate']!);
  t.match(schema['event'], { value: { type: 'numeric' }, watched: { type: 'id', table: 'event_watched' } });
  t.notOk('item_code' in schema['event']!);
  t.match(schema['tables'], { item_price: { size: 17 }, event_watched: { size: 17 }, item_thousands: { size: count + 1 } });
});

await t.test('a catalog reads cells as prepare did', async (t) => {
  const { dir } = await (await files(t))({ readAs: { price: 'buckets', title: 'ids: ' } });
  const catalog = await Catalog.open(dir);
  const table = (await parquetReadObjects({ file: await asyncBufferFromFile(join(dir, 'items.parquet')) })) as Record<string, unknown>[];
  const columns = ['author_id', 'price', 'tags', 'kinds', 'genres', 'python', 'range', 'title', 'plain'] as const;
  const candidates = items.map((row) => Object.fromEntries(['item', ...columns].map((c) => [c, row[c as keyof Item]])));
  const known = catalog.request({ candidates: items.map((i) => i.item) })['candidates'] as Record<string, unknown>[];
  const written = catalog.request({ candidates })['candidates'] as Record<string, unknown>[];
  for (const [i, row] of items.entries()) {
    const prepared = table.find((r) => r['key'] === row.item)!;
    for (const c of columns) {
      const plain = (value: unknown): unknown => (value !== null && typeof value === 'object' ? Array.from(value as number[]) : value);
      t.same(plain(written[i]![c]), plain(prepared[c]), `${c} of ${row.item}`);
      t.same(plain(known[i]![c]), plain(prepared[c]));
    }
  }
  t.same((catalog.request({ candidates: [{ item: 'new', tags: ['war', 'love'] }] })['candidates'] as Record<string, unknown>[])[0]!['tags'], (catalog.request({ candidates: [{ item: 'new', tags: ' love,war ,' }] })['candidates'] as Record<string, unknown>[])[0]!['tags']);
});

await t.test('lists of a Parquet file are ids, in side tables and in the log', async (t) => {
  const dir = t.testdir();
  const db = await (await DuckDBInstance.create()).connect();
  await db.run(`COPY (SELECT 'i' || (i % 50) AS item, 'u' || (i % 5) AS user, i AS time, i % 2 AS clicked, CASE WHEN i % 7 = 0 THEN [] ELSE ['a|b', 'c,' || (i % 3)] END AS seen FROM range(300) r(i)) TO '${join(dir, 'log.parquet')}' (FORMAT parquet)`);
  await db.run(`COPY (SELECT 'i' || i AS item, CASE WHEN i % 5 = 0 THEN NULL ELSE [i % 3, 100] END AS topics FROM range(50) r(i)) TO '${join(dir, 'items.parquet')}' (FORMAT parquet)`);
  const output = join(dir, 'out');
  const stats = await prepare({
    events: join(dir, 'log.parquet'), items: join(dir, 'items.parquet'), output, columns: { user: 'user', item: 'item', time: 'time' }, eventFeatures: ['seen'],
    labels: { click: { kind: 'value', column: 'clicked', atLeast: 1 } }, split: { kind: 'time', fractions: [0.8, 0, 0.2] }, threads: 1,
  });
  t.same(stats.readAs, { 'items.topics': 'ids', 'events.seen': 'ids' });
  const vocabulary = JSON.parse(await readFile(join(output, 'vocabulary.json'), 'utf8')) as Record<string, string[]>;
  t.same(vocabulary['item_topics'], ['0', '1', '2', '100']);
  t.same(vocabulary['event_x_seen'], ['a|b', 'c,0', 'c,1', 'c,2']);
  const catalog = await Catalog.open(output);
  const { history } = catalog.request({ time: 300, history: [{ item: 'i1', time: 1, seen: ['c,2', 'a|b'] }, { item: 'i5', time: 2, seen: [] }], candidates: [] }) as { history: Record<string, unknown>[] };
  t.same(history.map((e) => [e['seen'], Array.from(e['topics'] as number[])]), [[[1, 4], [2, 4]], [[], []]]);
});

await t.test('the values of a cell are the same in SQL', async (t) => {
  const db = await (await DuckDBInstance.create()).connect();
  const cells = ['a', 'a|b', ' a | b ', '|', '', "['a', 'b']", '["a","b c"]', '[]', ' [a] ', '[1, 2]', 'a,b', ",a,,'b'", 'a;b', "it's", `x${listSeparator}y`, '[[a]]'];
  for (const separator of ['|', ',', ';', ' ', '::', "'", listSeparator, bracketed])
    for (const cell of cells) {
      const [[found]] = (await db.runAndReadAll(`SELECT to_json(${membersSql(`'${cell.replaceAll("'", "''")}'`, separator)})`)).getRows() as [[string]];
      t.same(JSON.parse(found), membersOf(cell, separator), `${JSON.stringify(cell)} by ${JSON.stringify(separator)}`);
    }
});

await t.test('what cannot be read so is told with its column', async (t) => {
  const run = await files(t);
  await t.rejects(run({ readAs: { plain: 'number' } }), { code: 'ERR_DATA', place: /items\.csv, column plain$/, message: /expected a number, got "crime"/ });
  await t.rejects(run({ readAs: { 'items.plaine': 'id' } }), { code: 'ERR_CONFIG', place: 'readAs.items.plaine', message: /did you mean "items\.plain"\?/ });
  await t.rejects(run({ readAs: { plain: 'text' as 'id' } }), { code: 'ERR_CONFIG', place: 'readAs.plain', message: /expected id, ids, ids:SEPARATOR, number, buckets or none, got "text"/ });
  await t.rejects(run({ readAs: { plain: 'id' } }, true), { code: 'ERR_CONFIG', place: 'readAs.plain', message: /2 tables have a column of this name/ });
});
