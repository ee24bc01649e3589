import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { Catalog } from '../lib/data/catalog.ts';
import { prepare, type PrepareOptions } from '../lib/data/prepare.ts';
import { Random } from '../lib/data/random.ts';
import { Dataset } from '../lib/data/reader.ts';
import { encodeRequest, type EncodedRequest } from '../lib/schema/encode.ts';
import { schemaFromJSON, type Schema } from '../lib/schema/schema.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { MemoryHistoryStore } from '../lib/serve/history_store.ts';
import { rankServer } from '../lib/serve/http_server.ts';
import { RankService } from '../lib/serve/rank_service.ts';
import { trainDefaults } from '../lib/train/options.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { longer } from './command.ts';
import { tiny } from './helpers.ts';

interface Event { user: string; film: string; at: number; rating: number; how: string; watched: number | '' }
const rng = new Random(5, 1);
const films = Array.from({ length: 40 }, (_, i) => ({ film: `f${i}`, kinds: ['a|b', 'b', '', 'c|a'][i % 4]!, year: i % 7 === 0 ? '' : 1950 + i, length: (i * 37) % 11 ? i * 1.37 + 0.1 : '' }));
const people = Array.from({ length: 12 }, (_, i) => ({ user: `u${i}`, age: 20 + (i % 5), town: i % 3 ? 'x y' : '' }));
// The last film and user have no row in a side table, and u13's events all come late: training knows neither.
const log: Event[] = Array.from({ length: 700 }, (_, i) => ({
  user: i > 650 && i % 9 === 0 ? 'u13' : `u${rng.below(13)}`, film: i > 640 && i % 8 === 0 ? 'f99' : `f${rng.below(41)}`, at: 1000 + i * 10 + rng.below(9),
  rating: 1 + rng.below(5), how: ['tv', 'web', 'disc'][rng.below(3)]!, watched: rng.below(6) === 0 ? '' : rng.below(1000) / 7,
}));
const csv = (rows: readonly object[]): string => `${Object.keys(rows[0]!).join(',')}\n${rows.map((r) => Object.values(r).join(',')).join('\n')}\n`;

async function prepared(dir: string, over: Partial<PrepareOptions> = {}): Promise<{ out: string; schema: Schema; catalog: Catalog }> {
  for (const [name, rows] of Object.entries({ log, films, people })) await writeFile(join(dir, `${name}.csv`), csv(rows));
  const out = join(dir, 'data');
  await prepare({
    events: join(dir, 'log.csv'), users: join(dir, 'people.csv'), items: join(dir, 'films.csv'), itemFeatures: ['kinds', 'year', 'length'], output: out,
    columns: { user: 'user', item: 'film', time: 'at', value: 'rating', action: 'how' }, eventFeatures: ['watched'],
    labels: { label: { kind: 'value', atLeast: 4 } }, split: { kind: 'time', fractions: [0.8, 0, 0.2] }, candidates: 3, historyLength: 30, overwrite: true, ...over,
  });
  return { out, schema: schemaFromJSON(JSON.parse(await readFile(join(out, 'schema.json'), 'utf8')) as never), catalog: await Catalog.open(out) };
}

/** A row of the file as somebody would ask for it who has only the log. */
function asked(row: EncodedRequest): { user: string; time: number; history: object[]; candidates: unknown[]; labels: object } {
  const mine = log.filter((e) => e.user === row.userKey).sort((a, b) => a.at - b.at);
  const first = Number(row.id!.split(':')[1]) - 1;
  const past = mine.filter((e) => e.at < row.time).slice(-30).map((e) => Object.fromEntries(Object.entries(e).filter(([column]) => column !== 'user')));
  const own = mine.slice(first, first + row.candidates);
  return { user: row.userKey, time: row.time, history: past, candidates: own.map((e) => e.film), labels: { label: own.map((e) => Number(e.rating >= 4)) } };
}

await t.test('requests in the terms of the log are, bit for bit, what prepare made of it', async (t) => {
  const { out, schema, catalog } = await prepared(t.testdir());
  let rows = 0;
  const unknown = { user: 0, item: 0 };
  for (const part of ['train', 'test'])
    for await (const row of new Dataset(join(out, `${part}.parquet`), schema)) {
      rows++;
      const request = catalog.request({ id: row.id, ...asked(row) });
      t.strictSame(encodeRequest(schema, request as never), { ...row, historyStart: 0 }, `${part} ${row.id}`);
      unknown.user += Number(row.user.ids.get('user')![0] === 0);
      unknown.item += row.candidate.ids.get('item')!.filter((code) => code === 0).length;
    }
  t.ok(rows > 150 && unknown.user > 0 && unknown.item > 0, `${rows} rows, ${unknown.user} unknown users, ${unknown.item} unknown films`);
});

await t.test('a log in order only has no times', async (t) => {
  const { schema, catalog } = await prepared(t.testdir(), { columns: { user: 'user', item: 'film', seq: 'at', value: 'rating' }, eventFeatures: [], split: { kind: 'leave-last-n', valid: 0, test: 2 } });
  const request = catalog.request({ user: 'u1', history: [{ film: 'f1', rating: 5 }], candidates: ['f2'] });
  t.equal(encodeRequest(schema, request as never).events, 1);
  t.throws(() => catalog.request({ user: 'u1', history: [{ film: 'f1', rating: 5, at: 3 }], candidates: ['f2'] }), { code: 'ERR_DATA', place: 'request: history[0].at', message: /unknown column/ });
});

await t.test('columns that come with a key stand in place of the side table\'s, times may be texts', async (t) => {
  const { schema, catalog } = await prepared(t.testdir());
  const of = (candidate: unknown): EncodedRequest => encodeRequest(schema, catalog.request({ user: { user: 'u1', age: 24 }, time: '1970-01-01 01:00:00', history: [], candidates: [candidate] }) as never);
  t.equal(of('f1').time, 3600);
  t.strictSame(of({ film: 'f1' }), of('f1'));
  const known = of('f3');
  const written = of({ film: 'new', kinds: 'a|c', year: 1953, length: films[3]!.length });
  t.equal(written.candidate.ids.get('item')![0], 0);
  for (const feature of ['kinds', 'year']) t.strictSame(written.candidate.ids.get(feature), known.candidate.ids.get(feature), feature);
  t.strictSame(written.candidate.numeric, known.candidate.numeric);
  t.strictSame(of({ film: 'f3', kinds: ['c', 'a', 'c', 'never'] }).candidate.ids.get('kinds'), known.candidate.ids.get('kinds'));
});

await t.test('times in milliseconds are told, and asked for where nobody told', async (t) => {
  const dir = t.testdir();
  const columns = { user: 'user', item: 'film', time: 'at', value: 'rating' };
  const { out, schema } = await prepared(dir, { columns, eventFeatures: [] });
  const bigLog = log.map((e) => ({ ...e, at: 1_700_000_000_000 + e.at * 1000 }));
  const options = { events: join(dir, 'big.csv'), columns, labels: { label: { kind: 'value', atLeast: 4 } }, split: { kind: 'time', fractions: [0.8, 0, 0.2] }, candidates: 3, historyLength: 30 } as const;
  await writeFile(options.events, csv(bigLog));
  await t.rejects(prepare({ ...options, output: join(dir, 'no') }), { code: 'ERR_DATA', message: /past the year 5000.*timeUnit ms/ });
  await t.rejects(prepare({ ...options, output: join(dir, 'no'), timeUnit: 'minutes' as never }), { code: 'ERR_CONFIG', place: 'timeUnit' });
  await prepare({ ...options, output: join(dir, 'big'), timeUnit: 'ms' });
  const times = async (path: string): Promise<number[]> => {
    const all: number[] = [];
    for await (const row of new Dataset(path, schema)) all.push(row.time, ...row.eventTime);
    return all;
  };
  const catalog = await Catalog.open(join(dir, 'big'));
  t.equal(catalog.request({ time: 1_700_000_000_500 })['time'], 1_700_000_000.5);
  t.equal(catalog.request({ time: '2023-11-14T22:13:20Z' })['time'], 1_700_000_000);
  t.strictSame(catalog.events([{ film: 'f1', at: 1_700_000_001_000, rating: 3 }])[0]!['time'], 1_700_000_001);
  const bare = schemaFromJSON(JSON.parse(await readFile(join(dir, 'big', 'schema.json'), 'utf8')) as never);
  const [small, big] = [await times(join(out, 'test.parquet')), [] as number[]];
  for await (const row of new Dataset(join(dir, 'big', 'test.parquet'), bare)) big.push(row.time, ...row.eventTime);
  t.strictSame(big.map((x) => x - 1_700_000_000), small);
});

await t.test('what a request lacks or should not have is named', async (t) => {
  const { schema, catalog } = await prepared(t.testdir());
  const event = { film: 'f1', at: 5, rating: 3, how: 'tv', watched: 1 };
  const good = { user: 'u1', time: 9, history: [event], candidates: ['f1'] };
  for (const [raw, place, message] of [
    [{ ...good, history: [event, { ...event, film: null }] }, 'x:1: history[1].film', /is missing/],
    [{ ...good, history: [{ ...event, at: 'soon' }] }, 'x:1: history[0].at', /expected a number or a timestamp, got "soon"/],
    [{ ...good, history: [{ ...event, ratnig: 4 }] }, 'x:1: history[0].ratnig', /did you mean 'rating'.*Known: film, kinds/],
    [{ ...good, history: [{ ...event, watched: 'long' }] }, 'x:1: history[0].watched', /expected a number/],
    [{ ...good, history: ['f1'] }, 'x:1: history[0]', /expected a row of the log: film, at, rating, how, watched/],
    [{ ...good, candidates: [['f1']] }, 'x:1: candidates[0]', /expected a text or a number/],
    [{ ...good, candidates: [{ film: 'f1', yaer: 1 }] }, 'x:1: candidates[0].yaer', /did you mean 'year'/],
    [{ ...good, candidates: 'f1' }, 'x:1: candidates', /expected a list/],
    [{ ...good, user: {} }, 'x:1: user.user', /is missing/],
    ...[{ toString: 1, valueOf: 1 }, JSON.parse('['.repeat(20_000) + ']'.repeat(20_000)) as unknown].flatMap((odd) => [
      [{ ...good, time: odd }, 'x:1: time', /expected a number or a timestamp/],
      [{ ...good, history: [{ ...event, watched: odd }] }, 'x:1: history[0].watched', /expected a number/],
      [{ ...good, history: [{ ...event, how: odd }] }, 'x:1: history[0].how', /expected a text/],
      [{ ...good, candidates: [{ film: odd }] }, 'x:1: candidates[0].film', /expected a text/],
    ] as const),
    [{ ...good, history: [event, { ...event, at: 4 }] }, 'x:1: history[1].at', /time goes backwards: 4 after 5/],
    [{ ...good, history: [{ ...event, at: '1970-01-01 00:01:00' }] }, 'x:1: history[0].at', /the event is later than the request \("1970-01-01 00:01:00" > 9\)/],
    [{ ...good, history: [event, { ...event, watched: 1e300 }] }, 'x:1: history[1].watched', /expected a number, got 1e\+300/],
    [[], 'x:1', /expected a request/],
  ] as const) t.throws(() => catalog.request(raw as never, 'x:1'), { code: 'ERR_DATA', place, message }, place);
  t.throws(() => catalog.events([event, 3]), { code: 'ERR_DATA', place: 'events[1]' });
  t.throws(() => catalog.events([event, { ...event, at: 2 }]), { code: 'ERR_DATA', place: 'events[1].at', message: /2 after 5/ });
  t.throws(() => encodeRequest(schema, catalog.request({ time: 3, candidates: [] }) as never), { code: 'ERR_DATA', place: 'request: user' }, 'what the schema asks for');
});

await t.test('what the schema finds wrong is told in the terms of the log too', async (t) => {
  const { schema, catalog } = await prepared(t.testdir());
  const spec = schema.toJSON() as unknown as Record<string, Record<string, Record<string, unknown>>>;
  const edited = schemaFromJSON({ ...spec, tables: { ...spec['tables'], item: { size: 2, width: 8 }, user: { size: 2, width: 8 } } } as never);
  const event = { film: 'f1', at: 5, rating: 3, how: 'tv', watched: 1 };
  const known = { user: 'u1', time: 9, history: [], candidates: ['never'] };
  const request = (over: object): EncodedRequest => catalog.encode(edited, { ...known, ...over }, 'x.jsonl:7');
  t.strictSame(catalog.encode(schema, known), encodeRequest(schema, catalog.request(known) as never), 'and what is right is the same');
  t.throws(() => request({ user: 'nobody', history: [event] }), { code: 'ERR_DATA', place: 'x.jsonl:7: history[0].film', message: /id from 0 to 1, got/ });
  t.throws(() => request({ user: 'nobody', candidates: ['f1'] }), { code: 'ERR_DATA', place: 'x.jsonl:7: candidates[0].film' });
  t.throws(() => request({}), { code: 'ERR_DATA', place: 'x.jsonl:7: user.user' });
  t.throws(() => request({ user: 'nobody', labels: { label: [2] } }), { code: 'ERR_DATA', place: 'x.jsonl:7: labels.label[0]' }, 'what no column stands behind keeps its name');
  const other = new Error('of something else');
  t.equal(catalog.named(other), other);
});

await t.test('codes of another catalog are refused, and so is half a catalog', async (t) => {
  const { out, schema, catalog } = await prepared(t.testdir());
  catalog.check(schema, 'model');
  const { catalog: fingerprint, ...bare } = schema.toJSON() as unknown as Record<string, unknown>;
  t.equal(fingerprint, catalog.fingerprint);
  t.throws(() => { catalog.check(schemaFromJSON(bare as never), 'model'); }, { code: 'ERR_SCHEMA', place: 'model', message: /names no catalog/ });
  const words = await readFile(join(out, 'vocabulary.json'), 'utf8');
  await writeFile(join(out, 'vocabulary.json'), words.replace('"f1"', '"f1x"'));
  const changed = await Catalog.open(out);
  t.throws(() => { changed.check(schema, 'model'); }, { code: 'ERR_SCHEMA', message: /another catalog/ });
  t.throws(() => new Dataset('x.jsonl', schema, { catalog: changed }), { code: 'ERR_SCHEMA' });
  t.throws(() => new Dataset('x.parquet', schema, { catalog }), { code: 'ERR_DATA', message: /JSON lines/ });
  const file = JSON.parse(await readFile(join(out, 'catalog.json'), 'utf8')) as object;
  for (const [name, other] of [['catalog.json', []], ['catalog.json', null], ['catalog.json', { ...file, version: 2 }], ['catalog.json', { ...file, item: {} }], ['vocabulary.json', null], ['vocabulary.json', { item: [1] }]] as const) {
    const text = await readFile(join(out, name), 'utf8');
    await writeFile(join(out, name), JSON.stringify(other));
    await t.rejects(Catalog.open(out), { code: 'ERR_DATA', place: join(out, name), message: /prepare the data anew/ }, `${name}: ${JSON.stringify(other).slice(0, 40)}`);
    await writeFile(join(out, name), text);
  }
  await writeFile(join(out, 'vocabulary.json'), words.slice(0, 100));
  await t.rejects(Catalog.open(out), { code: 'ERR_DATA', place: join(out, 'vocabulary.json') });
  await t.rejects(Catalog.open(join(out, 'no')), { code: 'ERR_DATA', message: /longer prepare/ });
});

/** A model of the log in `dir`/model. */
async function modelOf(dir: string, schema: Schema): Promise<string> {
  using runtime = new Runtime({ threads: 1 });
  using trainer = new Trainer(new ModelDescription(schema, { ...tiny, maxHistory: 30 }), trainDefaults, runtime);
  await trainer.save(join(dir, 'model'), {});
  return join(dir, 'model');
}

await t.test('longer score takes requests in the terms of the log', async (t) => {
  const dir = t.testdir();
  const { out, schema } = await prepared(dir);
  const model = await modelOf(dir, schema);
  const rows: object[] = [];
  for await (const row of new Dataset(join(out, 'test.parquet'), schema)) rows.push({ id: row.id, ...asked(row) });
  await writeFile(join(dir, 'raw.jsonl'), rows.map((r) => `${JSON.stringify(r)}\n`).join(''));
  const scores = async (requests: string, ...more: string[]): Promise<string> => {
    const run = longer('score', '--model', model, '--requests', requests, '--out', join(dir, 'scores.jsonl'), ...more);
    t.equal(run.status, 0, run.stderr);
    return readFile(join(dir, 'scores.jsonl'), 'utf8');
  };
  t.equal(await scores(join(dir, 'raw.jsonl'), '--catalog', out), await scores(join(out, 'test.parquet')));
  await writeFile(join(dir, 'bad.jsonl'), `${JSON.stringify({ ...rows[0], candidates: [{ flim: 'f1' }] })}\n`);
  const bad = longer('score', '--model', model, '--requests', join(dir, 'bad.jsonl'), '--out', join(dir, 'none.jsonl'), '--catalog', out);
  t.equal(bad.status, 1);
  t.match(bad.stderr, /bad\.jsonl:1: candidates\[0\]\.film: is missing/);
});

await t.test('longer evaluate takes labelled requests in the terms of the log: the metrics of the prepared ones, bit for bit', async (t) => {
  const dir = t.testdir();
  const { out, schema } = await prepared(dir, { evaluationCandidates: 6 });
  const model = await modelOf(dir, schema);
  const rows: object[] = [];
  for await (const row of new Dataset(join(out, 'test.parquet'), schema)) rows.push({ id: row.id, ...asked(row) });
  const write = (name: string, list: readonly object[]): Promise<void> => writeFile(join(dir, name), list.map((r) => `${JSON.stringify(r)}\n`).join(''));
  await write('raw.jsonl', rows);
  const evaluate = (data: string, ...more: string[]) => longer('evaluate', '--model', model, '--data', data, ...more);
  const [raw, fromParts] = [evaluate(join(dir, 'raw.jsonl'), '--catalog', out, '--json'), evaluate(join(out, 'test.parquet'), '--json')];
  t.equal(raw.status, 0, raw.stderr);
  t.equal(raw.stdout, fromParts.stdout);
  const { tasks } = JSON.parse(raw.stdout) as { tasks: { label: { samples: number; users: number; rankedRequests: Record<string, number>; values: Record<string, number | null>; intervals: Record<string, number[]> } } };
  t.equal(tasks.label.samples, rows.flatMap((r) => (r as { candidates: unknown[] }).candidates).length);
  t.ok(tasks.label.users > 5 && tasks.label.values['auc']! > 0 && tasks.label.intervals['gauc']!.length === 2 && tasks.label.rankedRequests['ndcg@5']! > 5, raw.stdout);
  t.strictSame([tasks.label.rankedRequests['hr@10'], tasks.label.values['hr@10']], [0, null], 'no request has ten negatives');
  const table = evaluate(join(dir, 'raw.jsonl'), '--catalog', out).stdout;
  t.match(table, new RegExp(`gauc .* \\d+ users with both classes\\n(.*\\n)*ndcg@5 .* ${tasks.label.rankedRequests['ndcg@5']} requests`));
  t.match(table, /hr@10 +- +0 requests\n(.*\n)*no request counts for hr@10: HR@k is of those with a positive and at least k negatives/);
  const refused = async (request: object, message: RegExp, ...more: string[]): Promise<void> => {
    await write('bad.jsonl', [rows[0]!, request]);
    const run = evaluate(join(dir, 'bad.jsonl'), '--catalog', out, ...more);
    t.equal(run.status, 1);
    t.match(run.stderr, message);
  };
  const { history } = rows.at(-1) as { history: { at: number }[] };
  await refused({ ...rows.at(-1), history: history.toReversed() }, new RegExp(`bad\\.jsonl:2: history\\[1\\]\\.at: time goes backwards: ${history.at(-2)!.at} after ${history.at(-1)!.at}`));
  await refused({ ...rows[1], labels: { label: [7] } }, /bad\.jsonl:2: labels\.label/);
  await refused({ ...rows[1], labels: undefined, label: { label: [1] } }, /bad\.jsonl:2: label: unknown key; did you mean 'labels'\?/);
  await refused({ ...rows[1], candidates: undefined }, /bad\.jsonl:2: candidates: is missing/);
  await write('bad.jsonl', rows.map((r) => ({ ...r, labels: undefined })));
  t.match(evaluate(join(dir, 'bad.jsonl'), '--catalog', out).stderr, /bad\.jsonl: no candidate has a label\. Give one a candidate, as in "labels": \{"label": \[1, 0\]\}/);
  await write('bad.jsonl', []);
  t.match(evaluate(join(dir, 'bad.jsonl'), '--catalog', out).stderr, /bad\.jsonl: it holds no request/);
  await write('bad.jsonl', [{}]);
  t.match(evaluate(join(dir, 'bad.jsonl'), '--catalog', out, '--skip-bad').stderr, /no request is good; bad ones: 1, the first: .*bad\.jsonl:1: history: is missing/);
  t.match(evaluate(join(out, 'test.parquet'), '--catalog', out).stderr, /needs no catalog/);
});

async function served(t: Test): Promise<{ url: string; service: RankService; out: string; schema: Schema; catalog: Catalog }> {
  const dir = t.testdir();
  const { out, schema, catalog } = await prepared(dir);
  const service = await RankService.open(await modelOf(dir, schema), { timeout: 600_000 }, { threads: 1, histories: (s) => new MemoryHistoryStore(s) });
  const app = await rankServer({ service, catalog });
  t.teardown(async () => {
    await app.close();
    await service.close();
  });
  return { url: await app.listen({ port: 0, host: '127.0.0.1' }), service, out, schema, catalog };
}

await t.test('the service takes requests and events in the terms of the log', async (t) => {
  const { url, service, out, schema, catalog } = await served(t);
  const send = async (method: string, path: string, body: object): Promise<{ status: number; body: Record<string, unknown> }> => {
    const reply = await fetch(`${url}${path}`, { method, body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });
    return { status: reply.status, body: (await reply.json()) as Record<string, unknown> };
  };
  for await (const row of new Dataset(join(out, 'test.parquet'), schema)) {
    const { user, time, history, candidates } = asked(row);
    const rest = { user, time, candidates };
    const wanted = await service.rank(catalog.request({ ...rest, history }) as never);
    const given = await send('POST', '/v1/rank', { ...rest, history });
    t.strictSame(given.body['logits'], { label: [...wanted.logits['label']!] }, row.id!);
    t.equal((await send('PUT', `/v1/histories/${row.userKey}`, { events: history })).status, 200);
    const stored = await send('POST', '/v1/rank', { ...rest, userId: row.userKey, topK: 1 });
    t.strictSame([stored.body['logits'], stored.body['cache']], [{ label: [wanted.logits['label']![0]] }, 'hit'], `${row.userKey}: a stored history`);
  }
  t.match(await send('POST', '/v1/rank', { user: 'u1', time: 5, history: [], candidates: ['f1', { film: 3, yaer: 4 }] }), { status: 400, body: { error: { code: 'ERR_DATA', field: 'candidates[1].yaer' } } });
  t.match(await send('POST', '/v1/histories/u1', { events: [{ at: 5 }] }), { status: 400, body: { error: { field: 'events[0].film' } } });
  const late = { film: 'f1', at: 1e6, rating: 3, how: 'tv', watched: 1 };
  t.match(await send('POST', '/v1/rank', { user: 'u1', time: 5, history: [late], candidates: ['f1'] }), { status: 400, body: { error: { field: 'history[0].at', message: /later than the request \(1000000 > 5\)/ } } });
  t.equal((await send('POST', '/v1/histories/u1', { events: [late] })).status, 200);
  t.match(await send('POST', '/v1/histories/u1', { events: [{ ...late, at: 6 }] }), { status: 400, body: { error: { field: 'events[0].at', message: /time goes backwards: 6 after 1000000/ } } });
  const api = JSON.stringify(await (await fetch(`${url}/openapi.json`)).json());
  for (const column of ['film', 'kinds', 'watched', 'town']) t.ok(api.includes(`"${column}"`), column);
  const bare = Object.fromEntries(Object.entries(schema.toJSON()).filter(([key]) => key !== 'catalog'));
  const other = { ...service, schema: schemaFromJSON(bare as never), model: { name: 'm' } };
  await t.rejects(rankServer({ service: other as never, catalog }), { code: 'ERR_SCHEMA', place: 'm' });
});
