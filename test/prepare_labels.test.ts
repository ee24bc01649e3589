import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import t from 'tap';
import { prepareCommand } from '../lib/cli/prepare.ts';
import { type LabelRule, prepare, type PrepareOptions, type PrepareStats } from '../lib/data/prepare.ts';
import { schemaFromJSON } from '../lib/schema/schema.ts';
import { longerHere } from './command.ts';

interface Event { user: string; item: string; at: number; did: string; watched: number | ''; rating: number | '' }
interface Row { readonly user_id: string; readonly id: string; readonly [column: string]: unknown }

const csv = (events: readonly object[]): string => `${Object.keys(events[0]!).join(',')}\n${events.map((e) => Object.values(e).join(',')).join('\n')}\n`;
const read = async (file: string): Promise<Row[]> => (await parquetReadObjects({ file: await asyncBufferFromFile(file) })) as unknown as Row[];
const columns = { user: 'user', item: 'item', time: 'at' };
const split = { kind: 'leave-last-n', valid: 1, test: 1 } as const;

const event = fc.record<Event>({
  user: fc.constantFrom('a', 'b', 'c'), item: fc.integer({ min: 1, max: 6 }).map((i) => `i${i}`), at: fc.integer({ min: 0, max: 40 }),
  did: fc.constantFrom('view', 'like', 'share', "it's", ''), watched: fc.oneof(fc.constant('' as const), fc.double({ min: -9, max: 9, noNaN: true }), fc.constant(3)), rating: fc.constantFrom('' as const, 1, 2, 3),
});
const named = fc.array(event, { minLength: 12, maxLength: 40 }).map((events) => [...events, ...(['like', 'share', "it's"] as const).map((did, i): Event => ({ user: 'a', item: 'i1', at: i, did, watched: 1, rating: '' }))]);

/** The labels that a task should have: what the rules say, in plain terms. */
const tasks: Readonly<Record<string, readonly [LabelRule, (e: Event) => 0 | 1 | null]>> = {
  like: [{ kind: 'action', column: 'did', positive: ['like', 'share'] }, (e) => (['like', 'share'].includes(e.did) ? 1 : 0)],
  'quoted "x"': [{ kind: 'action', positive: ["it's"] }, (e) => (e.did === "it's" ? 1 : 0)],
  long: [{ kind: 'value', column: 'watched', atLeast: 3 }, (e) => (e.watched === '' ? null : Number(e.watched >= 3) as 0 | 1)],
  longer: [{ kind: 'value', column: 'watched', above: 3 }, (e) => (e.watched === '' ? null : Number(e.watched > 3) as 0 | 1)],
  short: [{ kind: 'value', column: 'watched', below: -0.5 }, (e) => (e.watched === '' ? null : Number(e.watched < -0.5) as 0 | 1)],
  poor: [{ kind: 'value', atMost: 2 }, (e) => (e.rating === '' ? null : Number(e.rating <= 2) as 0 | 1)],
};
const labels = Object.fromEntries(Object.entries(tasks).map(([task, [rule]]) => [task, rule]));

await t.test('every task has the labels of its rule, in every part, and statistics count them', async (t) => {
  const dir = t.testdir();
  let run = 0;
  await fc.assert(fc.asyncProperty(named, fc.integer({ min: 1, max: 5 }), fc.subarray(Object.keys(tasks), { minLength: 1 }), async (events, candidates, chosen) => {
    const [path, output] = [join(dir, `${run}.csv`), join(dir, `out-${run++}`)];
    // One task says of every event, so that all can be used.
    const all = [...new Set(['like', ...chosen])];
    await writeFile(path, csv(events));
    const stats = await prepare({
      events: path, output, columns: { ...columns, value: 'rating', action: 'did' }, labels: Object.fromEntries(all.map((task) => [task, labels[task]!])), split, candidates, threads: 1,
    });
    const schema = schemaFromJSON(JSON.parse(await readFile(join(output, 'schema.json'), 'utf8')) as object);
    t.strictSame(schema.tasks, all.map((name) => ({ name, weight: 1 })));
    let seen = 0;
    for (const part of ['train', 'valid', 'test'] as const) {
      if (!stats.parts[part]) continue;
      const wanted = Object.fromEntries(all.map((task) => [task, { labelled: 0, positive: 0 }]));
      for (const row of await read(join(output, `${part}.parquet`))) {
        const mine = events.filter((e) => e.user === row.user_id).sort((a, b) => a.at - b.at);
        const first = Number(row.id.split(':')[1]) - 1;
        const own = mine.slice(first, first + (row['candidates.item'] as unknown[]).length);
        seen += own.length;
        for (const task of all) {
          const list = own.map((e) => tasks[task]![1](e));
          t.strictSame(row[`labels.${task}`], list, task);
          wanted[task]!.labelled += list.filter((y) => y !== null).length;
          wanted[task]!.positive += list.filter((y) => y === 1).length;
        }
      }
      t.strictSame(stats.parts[part].tasks, wanted);
    }
    t.equal(seen, events.length, 'every event is a candidate once');
    t.strictSame(stats.warnings.length, all.filter((task) => { const { labelled, positive } = stats.parts.train!.tasks[task]!; return positive === 0 || positive === labelled; }).length, 'a warning a task of one kind');
  }), { numRuns: 15 });
});

await t.test('with sampled negatives, events that are positive for some task are candidates, and the others negative for all', async (t) => {
  const events = Array.from({ length: 300 }, (_, i) => ({ user: `u${i % 4}`, item: `i${(i * i) % 37}`, at: i, did: ['view', 'like', 'buy'][i % 3]!, watched: i % 3 === 1 ? '' : i % 7, rating: '' }));
  const dir = t.testdir({ 'log.csv': csv(events) });
  const stats = await prepare({
    events: join(dir, 'log.csv'), output: join(dir, 'out'), columns, candidates: 2, split: { kind: 'leave-last-n', valid: 0, test: 5 }, negatives: { kind: 'popularity', perPositive: 2 },
    labels: { like: { kind: 'action', column: 'did', positive: ['like'] }, buy: { kind: 'action', column: 'did', positive: ['buy'] } },
  });
  const rows = [...await read(join(dir, 'out', 'train.parquet')), ...await read(join(dir, 'out', 'test.parquet'))];
  const pairs = rows.flatMap((r) => (r['labels.like'] as number[]).map((like, i) => `${like}${(r['labels.buy'] as number[])[i]}`));
  const count = (pair: string): number => pairs.filter((p) => p === pair).length;
  t.strictSame([count('10'), count('01'), count('11')], [100, 100, 0]);
  t.ok(count('00') > 390 && count('00') <= 400, `${count('00')} negatives for 200 positives`);
  t.equal(stats.parts.train!.tasks['like']!.labelled, stats.parts.train!.candidates);
  const seen = await prepare({
    events: join(dir, 'log.csv'), output: join(dir, 'seen'), columns, candidates: 2, split: { kind: 'leave-last-n', valid: 0, test: 5 }, negatives: { kind: 'popularity', perPositive: 1 },
    labels: { seen: { kind: 'all' }, long: { kind: 'value', column: 'watched', above: 3 } },
  });
  t.equal(seen.parts.train!.tasks['seen']!.positive, 280);
  t.equal(seen.parts.train!.candidates - seen.parts.train!.tasks['long']!.labelled, events.slice(0, -20).filter((e) => e.watched === '').length, 'an event without a number has no label for that task alone');
});

const log = csv(Array.from({ length: 40 }, (_, i) => ({ user: `u${i % 3}`, item: `i${i % 7}`, at: i, did: i % 2 ? 'like' : 'view', watched: i * 1000, rating: '' })));

await t.test('a rule that cannot be right is refused with its place and the remedy', async (t) => {
  const dir = t.testdir({ 'log.csv': log, 'none.csv': log.split('\n')[0]! });
  const path = join(dir, 'log.csv');
  const options: PrepareOptions = { events: path, output: join(dir, 'out'), columns, labels: {}, split };
  const like = { kind: 'action', column: 'did', positive: ['like'] } as const;
  const cases: readonly (readonly [over: object, code: string, place: string, message: RegExp])[] = [
    [{}, 'ERR_CONFIG', 'labels', /no label is named.*labels.*negatives/],
    [{ label: like, labels: undefined }, 'ERR_CONFIG', 'labels', /no label is named/],
    [{ labels: { like: { kind: 'action', positive: ['like'] } } }, 'ERR_CONFIG', 'labels.like', /no column of actions is named\. Name it \(columns\.action\)/],
    [{ labels: { like: { kind: 'value', atLeast: 3 } } }, 'ERR_CONFIG', 'labels.like', /no column of values is named\. Name it \(columns\.value\)/],
    [{ labels: { like: { ...like, positive: [] } } }, 'ERR_CONFIG', 'labels.like', /expected a list of texts/],
    [{ labels: { like: { ...like, positive: ['like', 'view', 'like'] } } }, 'ERR_CONFIG', 'labels.like', /"like" is named twice/],
    [{ labels: { like, long: { kind: 'value', column: 'watched', atLeast: NaN } } }, 'ERR_CONFIG', 'labels.long', /expected a finite number, got NaN/],
    [{ labels: { long: { kind: 'value', column: 'watched' } } }, 'ERR_CONFIG', 'labels.long', /expected one of atLeast, above, atMost, below, got none/],
    [{ labels: { long: { kind: 'value', column: 'watched', above: 1, below: 3 } } }, 'ERR_CONFIG', 'labels.long', /got above and below/],
    [{ labels: { like, Like: like } }, 'ERR_CONFIG', 'labels.Like', /"like" and "Like" differ in case only/],
    [{ labels: { '': like } }, 'ERR_CONFIG', 'labels', /no name/],
    [{ labels: { seen: { kind: 'all' } } }, 'ERR_CONFIG', 'labels.seen', /negatives must be sampled.*\(negatives\)/],
    [{ labels: { seen: { kind: 'some' } } }, 'ERR_CONFIG', 'labels.seen.kind', /expected all, value or action, got some/],
    [{ labels: { like, long: { kind: 'value', column: 'watchd', atLeast: 3 } } }, 'ERR_DATA', path, /has no column "watchd" \(labels\.long\); did you mean "watched"\? Its columns are user, item, at, did, watched, rating/],
    [{ labels: { like: { ...like, positive: ['like', 'shraed'] } } }, 'ERR_DATA', `${path}: labels.like`, /"shraed" never occurs in the column "did"\. It has like, view/],
    [{ labels: { like: { ...like, positive: ['liek'] } } }, 'ERR_DATA', `${path}: labels.like`, /did you mean "like"\?/],
    [{ labels: { like: { ...like, column: 'rating' } } }, 'ERR_DATA', `${path}: labels.like`, /"like" never occurs in the column "rating"\. The column is empty/],
    [{ labels: { like }, history: { ...like, positive: ['click'] } }, 'ERR_DATA', `${path}: history`, /"click" never occurs/],
    [{ labels: { poor: { kind: 'value', column: 'rating', below: 3 } } }, 'ERR_DATA', `${path}, row 1`, /the column "rating" \(labels\.poor\) is empty; expected a number, which makes the label\. No row can be used\. Look at what/],
    [{ labels: { poor: { kind: 'value', column: 'rating', below: 3 } }, skipBad: true }, 'ERR_DATA', `${path}, row 1`, /No row can be used/],
    [{ labels: { like }, events: join(dir, 'none.csv') }, 'ERR_DATA', join(dir, 'none.csv'), /it has no rows/],
    [{ labels: { like: { ...like, column: 'item', positive: ['i9'] } } }, 'ERR_DATA', `${path}: labels.like`, /"i9" never occurs in the column "item"\. It has i0/],
    [{ labels: { like, what: { kind: 'value', column: 'did', below: 3 } } }, 'ERR_DATA', `${path}, row 1`, /the column "did" \(labels\.what\) has "view"; expected a number\. No row/],
  ];
  for (const [over, code, place, message] of cases) await t.rejects(prepare({ ...options, ...over }), { code, place, message }, JSON.stringify(over));
});

await t.test('bad rows are told with what they hold, one as one', async (t) => {
  const rows = 'user,item,at,did,watched\na,i1,1,like,5\na,i2,2,view,\nb,i1,3,view,7\nb,i2,4,view,1\na,i3,5,like,2\n';
  const long = 'x'.repeat(100);
  const dir = t.testdir({
    'time.csv': `${rows}b,i9,soon,view,3\n`, 'two.csv': `${rows}b,,6,view,3\n,i2,7,view,3\n`, 'number.csv': `${rows}b,i3,6,view,${long}\nb,i4,7,view,nan\n`,
  });
  const options = (name: string, over: Partial<PrepareOptions> = {}): PrepareOptions => ({
    events: join(dir, `${name}.csv`), output: join(dir, 'out'), columns, labels: { like: { kind: 'action', column: 'did', positive: ['like'] }, long: { kind: 'value', column: 'watched', atLeast: 3 } }, split, overwrite: true, ...over,
  });
  for (const [name, row, message] of [
    ['time', 6, /row 6: the column "at" \(columns\.time\) has "soon"; expected a number or a timestamp\. Mend the row, or leave it out \(skipBad\)$/],
    ['two', 6, /row 6: the column "item" \(columns\.item\) is empty; expected an item\. 2 rows cannot be used\. Mend them/],
    ['number', 6, /row 6: the column "watched" \(labels\.long\) has "x{57}\.\.\."; expected a number\. 2 rows/],
  ] as const) {
    await t.rejects(prepare(options(name)), { code: 'ERR_DATA', place: `${join(dir, `${name}.csv`)}, row ${row}`, message });
    t.equal((await prepare(options(name, { skipBad: true }))).badRows, name === 'time' ? 1 : 2);
  }
  const two = { events: join(dir, 'time.csv'), labels: { long: { kind: 'value', column: 'watched', atLeast: 3 }, five: { kind: 'value', column: 'watched', above: 5 } } } as const;
  await t.rejects(prepare(options('time', two)), { place: `${join(dir, 'time.csv')}, row 2`, message: /the column "watched" \(labels\.long\) is empty, the column "watched" \(labels\.five\) is empty; expected a number, which makes the label\. 2 rows/ }, 'no label for any task');
  await t.rejects(prepare(options('time', { history: { kind: 'value', column: 'watched', above: 1 } })), { place: `${join(dir, 'time.csv')}, row 2`, message: /"watched" \(history\) is empty; expected a number/ });
});

const prepareHere = (...args: string[]) => longerHere(prepareCommand(), ...args);

await t.test('--label names the tasks, and errors name flags', async (t) => {
  const dir = t.testdir({ 'log.csv': log, 'bad.csv': `${log}u1,i1,never,like,1,\n` });
  const base = ['--events', join(dir, 'log.csv'), '--out', join(dir, 'out'), '--time', 'at', '--split', 'leave-last-n', '--test-size', '2', '--overwrite'];
  const made = await prepareHere(...base, '--label', 'like=did:like', '--label', 'long = watched >= 30000', '--label', 'none=watched<0', '--json');
  t.equal(made.said, '');
  const stats = JSON.parse(made.out) as PrepareStats;
  t.strictSame(stats.parts.train!.tasks, { like: { labelled: 34, positive: 17 }, long: { labelled: 34, positive: 4 }, none: { labelled: 34, positive: 0 } });
  t.equal(made.warned, 'longer: warning: the task "none" has only zeros (34 of them) in the train part, from which nothing can be learned. Look at its rule (--label none) and at the split (--split, --test-size, --valid-size)\n');
  t.strictSame(stats.warnings.length, 1);
  const table = await prepareHere(...base, '--label', 'like=did:like', '--label', 'long=watched>=30000');
  t.match(table.out, /positives +train +test\nlike +17 of 34 \(50\.0 %\) +3 of 6 \(50\.0 %\)\nlong +4 of 34 \(11\.8 %\) +6 of 6 \(100\.0 %\)\n/);
  t.equal(table.warned, '', 'ones alone are no fault of the test part');
  const same = await prepareHere(...base, '--value', 'watched', '--label-threshold', '3e4', '--task', 'long', '--json');
  t.strictSame((JSON.parse(same.out) as PrepareStats).parts.test!.tasks, { long: { labelled: 6, positive: 6 } }, 'the short form of one task');

  const bad = [...base, '--events', join(dir, 'bad.csv'), '--label', 'like=did:like'];
  t.match((await prepareHere(...bad)).said, /bad\.csv, row 41: the column "at" \(--time\) has "never"; expected a number or a timestamp\. Mend the row, or leave it out \(--skip-bad\)$/);
  t.match((await prepareHere(...bad, '--skip-bad')).out, /; 1 bad row left out\n/);
  for (const [args, message] of [
    [['--label', 'like'], /--label <task=rule>.*'like' is invalid\. expected NAME=COLUMN:VALUE,VALUE or 'NAME=COLUMN>=NUMBER'/],
    [['--label', 'like=watched'], /in quotes, as a shell takes > and < for itself/],
    [['--label', 'watched>=3'], /it names no task: write 'NAME=watched>=3'/],
    [['--label', '=did:like'], /expected NAME=COLUMN/],
    [['--label', 'like=did:like', '--label', 'like=watched>=3'], /the task 'like' is named twice/],
    [['--label', 'long=watched>=30k'], /expected a number after >=, got '30k'/],
    [['--label', 'long=watched>'], /expected a number after >, got ''/],
    [['--label', 'like=did:like,,view'], /a value is empty in 'like,,view'/],
    [['--label', 'like=did:like', '--label-threshold', '3', '--task', 'x'], /cannot stand beside --label-threshold and --task\. Give every task a --label/],
    [['--label-threshold', '3', '--label-actions', 'like'], /--label-threshold, --label-actions: only one of them can decide\. Leave one out, or name two tasks \(--label\)/],
    [['--label', 'like=did:like', '--history-threshold', '3', '--history-actions', 'like'], /--history-threshold, --history-actions: only one/],
    [['--label-threshold', 'four'], /expected a number, got 'four'/],
    [['--label-threshold', '4'], /^--label-threshold: it goes by the value of an event, and no column of values is named\. Name it \(--value\)/],
    [['--label-actions', 'like'], /^--label-actions: .*Name it \(--action\)/],
    [['--action', 'did', '--label-actions', 'likes'], /log\.csv: --label-actions: "likes" never occurs in the column "did"; did you mean "like"\?/],
    [['--action', 'did', '--label', 'like=did:like', '--history-actions', 'klick'], /log\.csv: --history-actions: "klick" never occurs/],
    [['--label', 'like=dd:like'], /has no column "dd" \(--label like\); did you mean "did"\?/],
    [['--label', 'seen=all'], /^--label seen: with every event positive, negatives must be sampled\. Sample them \(--negatives\)/],
    [[], /^--label: with every event positive.*or say what is positive \(--label\)/],
    [['--label', 'like=did:like', '--event-features', 'dd'], /has no column "dd" \(--event-features\)/],
    [['--label', 'like=did:like', '--negatives', '1.5'], /^--negatives: expected a whole number/],
    [['--label', 'like=did:like', '--test-size', '0.9', '--valid-size', '0.3', '--split', 'leave-last-fraction'], /^--split, --test-size, --valid-size: valid and test must be positive/],
    [['--label', 'like=did:like', '--time', 'at', '--item', 'itm'], /has no column "itm" \(--item\); did you mean "item"\?/],
  ] as const) {
    const { said, out } = await prepareHere(...base, ...args);
    t.match(said, message, args.join(' '));
    t.equal(out, '', `${args.join(' ')}: nothing printed`);
  }
});
