import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import t from 'tap';
import { type Pieces, prepare, type PrepareOptions } from '../lib/data/prepare.ts';
import { Dataset } from '../lib/data/reader.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import type { EncodedRequest } from '../lib/schema/encode.ts';
import { type Schema, schemaFromJSON } from '../lib/schema/schema.ts';
import { MemoryHistoryStore } from '../lib/serve/history_store.ts';
import { RankService } from '../lib/serve/rank_service.ts';
import { trainDefaults } from '../lib/train/options.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { appendSafe } from './helpers.ts';

interface Event { user: string; item: string; time: number; value: number }
interface Row { id: string; user_id: string; time: number; [column: string]: unknown }

const read = async (file: string): Promise<Row[]> => (await parquetReadObjects({ file: await asyncBufferFromFile(file) })) as unknown as Row[];
const csv = (events: readonly Event[], withTime = true): string =>
  ['user,item,time,value', ...events.map((e) => [e.user, e.item, withTime ? e.time : '', e.value].join(','))].join('\n') + '\n';
const columns = { user: 'user', item: 'item', time: 'time', value: 'value' };

const log = fc.array(fc.record({
  user: fc.constantFrom('a', 'b', 'c'), item: fc.integer({ min: 1, max: 6 }).map((i) => `i${i}`),
  time: fc.integer({ min: 0, max: 15 }), value: fc.integer({ min: 1, max: 5 }),
}), { minLength: 12, maxLength: 60 });

const split = fc.constantFrom<PrepareOptions['split']>(
  { kind: 'time', fractions: [0.7, 0.15, 0.15] }, { kind: 'time', testFrom: 9 },
  { kind: 'leave-last-n', valid: 1, test: 2 }, { kind: 'leave-last-fraction', valid: 0.1, test: 0.2 });

await t.test('histories hold exactly the newest events of strictly earlier time, whatever the options', async (t) => {
  const dir = t.testdir();
  let run = 0;
  await fc.assert(fc.asyncProperty(log, split, fc.constantFrom('run' as const, 'time' as const), fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 8 }), fc.boolean(), fc.option(fc.integer({ min: 2, max: 5 }), { nil: undefined }),
    async (events, rule, grouping, candidates, historyLength, clock, atLeast) => {
      if (!clock && rule.kind === 'time') return;
      const path = join(dir, `${run}.csv`);
      const output = join(dir, `out-${run++}`);
      await writeFile(path, csv(events, clock));
      const options: PrepareOptions = { events: path, output, columns, labels: { label: { kind: 'value', atLeast: 4 } }, split: rule, grouping, candidates, historyLength, threads: 1, ...(atLeast === undefined ? {} : { history: { kind: 'value', atLeast } }) };
      try {
        await prepare(options);
      } catch (error) {
        fc.pre((error as Error).message.includes('no request is left'));
        throw error;
      }
      const vocabulary = JSON.parse(await readFile(join(output, 'vocabulary.json'), 'utf8')) as Record<string, string[]>;
      const code = (table: string, key: string): number => vocabulary[table]!.indexOf(key) + 1;
      const files = (await readdir(output)).filter((f) => f.endsWith('.parquet'));
      let labelled = 0;
      const trainTimes: number[] = [];
      const laterTimes: number[] = [];
      for (const file of files) for (const row of await read(join(output, file))) {
        const mine = events.filter((e) => e.user === row.user_id).map((e, i) => ({ ...e, time: clock ? e.time : i + 1 })).sort((a, b) => a.time - b.time);
        const before = mine.filter((e) => e.time < row.time && e.value >= (atLeast ?? 0));
        const past = before.slice(-historyLength);
        t.equal(row['historyStart'], before.length - past.length);
        const list = (name: string): number[] => [...(row[name] as number[])];
        t.strictSame(list('history.time'), past.map((e) => e.time));
        t.strictSame(list('history.item'), past.map((e) => code('item', e.item)));
        t.strictSame(list('history.value'), past.map((e) => vocabulary['event_value']!.findIndex((v) => Number(v) === e.value) + 1));
        t.equal(row['user.user'], code('user', row.user_id));
        // The candidates are a run of the user's events that begins at the request's time.
        const first = Number(row.id.split(':')[1]) - 1;
        const own = mine.slice(first, first + list('candidates.item').length);
        t.equal(own[0]!.time, row.time);
        t.ok(own.length <= candidates);
        if (grouping === 'time') t.ok(own.every((e) => e.time === row.time));
        t.strictSame(list('candidates.item'), own.map((e) => code('item', e.item)));
        t.strictSame(list('labels.label'), own.map((e) => (e.value >= 4 ? 1 : 0)));
        labelled += own.length;
        (file === 'train.parquet' ? trainTimes : laterTimes).push(...own.map((e) => e.time));
      }
      t.equal(labelled, events.length, 'every event is a candidate once');
      if (rule.kind === 'time') t.ok(trainTimes.every((x) => laterTimes.every((y) => x < y)), 'training is before all else');
    }), { numRuns: 20 });
});

await t.test('the files are the same whatever is held in memory at a time', async (t) => {
  const dir = t.testdir();
  const events = Array.from({ length: 12_000 }, (_, i): Event => ({ user: `u${(i * 7919) % 37}`, item: `i${(i * 31) % 101}`, time: (i * 17) % 5000, value: 1 + ((i * 13) % 5) }));
  const path = join(dir, 'log.csv');
  await writeFile(path, csv(events));
  const write = async (output: string, pieces?: Pieces): Promise<void> => {
    await prepare({ events: path, output: join(dir, output), columns, labels: { label: { kind: 'value', atLeast: 4 } }, split: { kind: 'leave-last-fraction', valid: 0.1, test: 0.25 }, candidates: 1, historyLength: 20 }, pieces);
  };
  await write('whole');
  await write('pieces', { shareEvents: 1000, historyNumbers: 1 });
  for (const file of ['train.parquet', 'valid.parquet', 'test.parquet']) {
    const [whole, pieces] = [await read(join(dir, 'whole', file)), await read(join(dir, 'pieces', file))];
    if (file !== 'valid.parquet') t.ok(whole.length > 2048, `${file} has more than one piece`);
    t.strictSame(pieces, whole, file);
  }
});

await t.test('a history that was cut is counted like the whole one, and like that of a store that drops', async (t) => {
  const dir = t.testdir();
  const events = Array.from({ length: 900 }, (_, i): Event => ({ user: `u${(i * 7919) % 11}`, item: `i${(i * 31) % 40}`, time: 10 * i + (i % 3), value: 1 + ((i * 13) % 5) }));
  await writeFile(join(dir, 'log.csv'), csv(events));
  using runtime = new Runtime({ threads: 2 });
  const kept = appendSafe.maxHistory + 1; // the window, and the event before it for the first gap
  for (const rule of [{ kind: 'time', fractions: [0.8, 0, 0.2] }, { kind: 'leave-last-n', valid: 0, test: 9 }] as const) {
    const written = async (historyLength: number): Promise<{ schema: Schema; rows: EncodedRequest[] }> => {
      const output = join(dir, `${rule.kind}-${historyLength}`);
      await prepare({ events: join(dir, 'log.csv'), output, columns, labels: { label: { kind: 'value', atLeast: 4 } }, split: rule, candidates: 4, historyLength, threads: 1 });
      const schema = schemaFromJSON(JSON.parse(await readFile(join(output, 'schema.json'), 'utf8')) as never);
      const rows: EncodedRequest[] = [];
      for (const part of ['train', 'test']) for await (const row of new Dataset(join(output, `${part}.parquet`), schema)) rows.push(row);
      return { schema, rows };
    };
    const [whole, cut] = [await written(1000), await written(kept)];
    t.ok(cut.rows.filter((r) => r.historyStart > 0).length > 100);
    using trainer = new Trainer(new ModelDescription(whole.schema, appendSafe), trainDefaults, runtime);
    const ranker = new Ranker(trainer.model, trainer.state, runtime);
    const scores = async (row: EncodedRequest): Promise<Float32Array> => ranker.score(await ranker.prefill([row]));
    const store = new MemoryHistoryStore(whole.schema, { maxEvents: kept });
    await using service = new RankService(ranker, 'a', { timeout: 600_000, cacheBytes: 2 ** 20 }, { histories: store });
    let shifted = 0;
    for (const [i, row] of whole.rows.entries()) {
      const same = cut.rows[i]!;
      t.equal(same.id, row.id);
      const wanted = await scores(row);
      t.strictSame(await scores(same), wanted, `${rule.kind}, ${row.id}`);
      if (same.historyStart % 24 !== 0 && Buffer.compare(Buffer.from(wanted.buffer), Buffer.from((await scores({ ...same, historyStart: 0 })).buffer)) !== 0) ++shifted;
      if (i % 7 !== 0) continue;
      const past = Array.from(row.eventTime, (time, e) => ({ item: row.event.ids.get('item')![e]!, value: row.event.ids.get('value')![e]!, time }));
      await store.replace('u', []);
      for (let e = 0; e < past.length; e += 5) await store.append('u', past.slice(e, e + 5));
      const served = await service.rank({ user: { user: row.user.ids.get('user')![0]! }, time: row.time, userId: 'u', candidates: Array.from(row.candidate.ids.get('item')!, (item) => ({ item })) } as never);
      t.strictSame(Array.from(served.index, (place) => wanted[place]), Array.from(served.logits['label']!), `served, ${row.id}`);
    }
    t.ok(shifted > 50, 'a history that begins anew is another');
  }
});

await t.test('sampled negatives: seeded, as many as asked, never of the request', async (t) => {
  const events = Array.from({ length: 400 }, (_, i) => ({ user: `u${i % 5}`, item: `i${(i * i) % 37}`, time: i, value: 1 }));
  const dir = t.testdir({ 'log.csv.gz': gzipSync(csv(events)) });
  const options = {
    events: join(dir, 'log.csv.gz'), columns, labels: { label: { kind: 'all' } }, split: { kind: 'leave-last-n', valid: 0, test: 4 }, candidates: 2,
    negatives: { kind: 'popularity', perPositive: 3 },
  } as const;
  const stats = await prepare({ ...options, output: join(dir, 'a') });
  await prepare({ ...options, output: join(dir, 'b'), threads: 1 });
  await prepare({ ...options, output: join(dir, 'c'), seed: 2 });
  const [a, b, c] = await Promise.all(['a', 'b', 'c'].map((n) => read(join(dir, n, 'test.parquet'))));
  t.strictSame(a, b, 'the same for any number of threads');
  t.notSame(a, c, 'another seed');
  t.strictSame(stats.parts.train!.tasks, { label: { labelled: 380 * 4, positive: 380 } });
  for (const row of a!) {
    const items = row['candidates.item'] as number[];
    const labels = row['labels.label'] as number[];
    t.equal(labels.filter((y) => y === 0).length, 6);
    const negatives = items.filter((_, i) => labels[i] === 0);
    t.equal(new Set(negatives).size, 6, 'all different');
    t.notOk(items.some((item, i) => labels[i] === 1 && negatives.includes(item)));
  }
});

await t.test('side tables, actions and bad rows', async (t) => {
  const dir = t.testdir({
    'log.csv': 'who,what,when,did\n1,10,2020-01-01 00:00:00,view\n1,11,2020-01-01 00:01:00,click\n2,10,2020-01-01 00:00:30,view\n1,12,2020-01-01 00:02:00,view\n',
    'bad.csv': 'who,what,when,did\n1,10,5,click\n,11,6,view\n1,12,soon,view\n1,12,9,view\n',
    'items.csv': 'what,kinds,price\n10,x|y,1.5\n11,y,2\n12,,3\n',
    'users.csv': 'who,age\n1,30\n',
  });
  const options: PrepareOptions = {
    events: join(dir, 'log.csv'), output: join(dir, 'out'), columns: { user: 'who', item: 'what', time: 'when', action: 'did' },
    items: join(dir, 'items.csv'), users: join(dir, 'users.csv'), labels: { click: { kind: 'action', positive: ['click'] } },
    split: { kind: 'time', testFrom: Date.parse('2020-01-01T00:02:00Z') / 1000 }, candidates: 1,
  };
  await prepare(options);
  const [row] = await read(join(dir, 'out', 'test.parquet'));
  t.strictSame(row!['history.kinds'], [[1, 2], [2]]);
  t.strictSame(row!['history.did'], [2, 1]);
  t.strictSame([row!['candidates.item'], row!['candidates.kinds'], row!['user.age'], row!['labels.click']], [[0], [[]], 1, [0]]);
  t.equal(row!.time, Date.parse('2020-01-01T00:02:00Z') / 1000);
  const schema = schemaFromJSON(JSON.parse(await readFile(join(dir, 'out', 'schema.json'), 'utf8')) as object);
  t.match(schema.tables, { item: { size: 3 }, item_kinds: { size: 3 } });
  t.strictSame(schema.sides.event.fields.map((f) => [f.name, f.kind]), [['item', 'id'], ['kinds', 'ids'], ['price', 'id'], ['did', 'id']]);
  t.strictSame([schema.time, schema.tasks[0]!.name], [true, 'click']);
  await t.rejects(prepare(options), { code: 'ERR_CONFIG' }, 'the directory is there');
  const bad = { ...options, overwrite: true, events: join(dir, 'bad.csv'), split: { kind: 'time', testFrom: 9 } } as const;
  await t.rejects(prepare(bad), { code: 'ERR_DATA', place: `${join(dir, 'bad.csv')}, row 2` });
  t.equal((await prepare({ ...bad, skipBad: true })).badRows, 2);
  await t.rejects(prepare({ ...bad, columns: { ...options.columns, item: 'nope' } }), { code: 'ERR_DATA' });
  await t.rejects(prepare({ ...bad, events: join(dir, 'none.csv') }), { code: 'ERR_DATA' });
  await t.rejects(prepare({ ...bad, labels: { label: { kind: 'value', atLeast: 3 } } }), { code: 'ERR_CONFIG', place: 'labels.label' });
  await t.rejects(prepare({ ...bad, history: { kind: 'value', atLeast: 3 } }), { code: 'ERR_CONFIG', place: 'history' });
  await prepare({ ...options, overwrite: true, history: { kind: 'action', positive: ['click'] } });
  t.strictSame((await read(join(dir, 'out', 'test.parquet')))[0]!['history.item'], [2], 'clicks alone are the past');
  t.equal((await readdir(dir)).filter((n) => n.startsWith('.')).length, 0, 'no working directory stays');
});
