import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { ModelConfig } from '../lib/model/config.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { encodeRequest } from '../lib/schema/encode.ts';
import { id } from '../lib/schema/features.ts';
import { defineSchema, type Schema } from '../lib/schema/schema.ts';
import { MemoryHistoryStore } from '../lib/serve/history_store.ts';
import { type HttpOptions, rankServer } from '../lib/serve/http_server.ts';
import { LogLines } from '../lib/serve/log_lines.ts';
import type { RankRequest } from '../lib/serve/rank_call.ts';
import { RankService } from '../lib/serve/rank_service.ts';
import { trainDefaults } from '../lib/train/options.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { appendSafe, freePort, random, richSchema, tiny } from './helpers.ts';

const runtime = new Runtime({ threads: 2 });
const root = mkdtempSync(join(tmpdir(), 'longer-faults-'));
t.teardown(() => {
  runtime.dispose();
  rmSync(root, { recursive: true });
});

async function save(name: string, seed: number, schema: Schema = richSchema as unknown as Schema, config: ModelConfig = tiny): Promise<void> {
  const trainer = new Trainer(new ModelDescription(schema, config), { ...trainDefaults, seed }, runtime);
  await trainer.save(join(root, name), {});
  trainer.dispose();
}
await save('a', 1);
await save('b', 2);
await save('grows', 3, undefined, appendSafe);

type Event = Record<string, number>;
const request = { user: { user_id: 'u1', age: 41, likes: [3, 4] }, context: { hour: 7 }, time: 9000, candidates: [{ item: 9, price: 1.5 }, { item: 10, price: 2 }, { item: 11, price: 0.5 }] };
const events = (n: number, from = 0): Event[] => Array.from({ length: n }, (_, i) => ({ item: (from + 7 * i) % 50, action: i % 3, dwell: i % 90, time: i / 16 }));

async function served(t: Test, options: Partial<HttpOptions> = {}, limits: object = {}, model = 'a') {
  const open = (directory: string): Promise<Ranker> => Ranker.open(directory, { runtime });
  const service = new RankService(await open(join(root, model)), model, { timeout: 600_000, ...limits }, { open, histories: new MemoryHistoryStore(richSchema, { maxEvents: 100_000 }) });
  const app = await rankServer({ service, models: root, ...options });
  t.teardown(async () => {
    app.server.closeAllConnections();
    await app.close();
    await service.close();
  });
  const send = async (url: string, payload: object | string, method: 'POST' | 'PUT' = 'POST') => {
    const reply = await app.inject({ method, url, payload, headers: { 'content-type': 'application/json' } });
    return { status: reply.statusCode, body: reply.json() as { logits: { click: number[] }; index: number[]; cache: string; model: string; error?: { code: string; field?: string } } };
  };
  return { app, service, send };
}

/** Logits of a request's candidates in their own order. */
const placed = ({ index, logits }: { index: number[]; logits: { click: number[] } }): number[] => index.map((_, place) => logits.click[index.indexOf(place)]!);

async function alone(ranker: Ranker, body: object): Promise<number[]> {
  const logits = await ranker.score(await ranker.prefill([encodeRequest(richSchema, body as never)]));
  return Array.from(logits).filter((_, i) => i % 2 === 0);
}

await t.test('a model that cannot be loaded changes nothing', async (t) => {
  await save('truncated', 4);
  const step = join(root, 'truncated', readdirSync(join(root, 'truncated')).find((n) => n.startsWith('step-'))!);
  truncateSync(join(step, 'model.safetensors'), 100);
  await save('stranger', 5, defineSchema({ event: { x: id(5, 4) }, candidate: { x: id(5, 4) }, labels: { click: {} }, time: true }) as unknown as Schema);
  await save('garbled', 6);
  writeFileSync(join(root, 'garbled', readdirSync(join(root, 'garbled')).find((n) => n.startsWith('step-'))!, 'manifest.json'), '{"format":');
  const { send, service } = await served(t);
  const body = { ...request, history: events(9) };
  const before = await send('/v1/rank', body);
  for (const [name, code] of [['truncated', 'ERR_CHECKPOINT'], ['garbled', 'ERR_CHECKPOINT'], ['stranger', 'ERR_SCHEMA'], ['nothing', 'ERR_CHECKPOINT']] as const) {
    const loads = await Promise.all([send('/v1/models', { name }), send('/v1/rank', body), send('/v1/models', { name })]);
    t.same([loads[0].status, loads[0].body.error?.code, loads[2].status], [422, code, 422], name);
    t.same(loads[1].body, { ...before.body, cache: 'hit' });
  }
  t.equal(service.stats().swaps, 0);
  const child = spawn(process.execPath, ['--import', 'tsx', join(import.meta.dirname, '../lib/cli/main.ts'), 'serve', '--model', join(root, 'truncated')], { env: plainEnv(), stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (chunk) => { said += String(chunk); });
  t.same(await once(child, 'close'), [1, null]);
  t.match(said, /model\.safetensors/);
});

await t.test('histories of every length, a clock that goes back, ids that nobody knows', async (t) => {
  const { send } = await served(t, { bodyLimit: 2 ** 25 });
  using ranker = await Ranker.open(join(root, 'a'), { runtime });
  for (const n of [0, 1, 2, 100_000]) {
    const body = { ...request, history: events(n) };
    t.same(placed((await send('/v1/rank', body)).body), await alone(ranker, body), `${n} events`);
    t.same((await send(`/v1/histories/u${n}`, { events: events(n) }, 'PUT')).status, 200);
    t.same(placed((await send('/v1/rank', { ...request, userId: `u${n}` })).body), await alone(ranker, body), `${n} stored events`);
  }
  t.match(await send('/v1/rank', { ...request, history: events(100_001) }), { status: 400, body: { error: { field: 'history' } } });
  t.same(placed((await send('/v1/rank', { ...request, userId: 'nobody' })).body), await alone(ranker, { ...request, history: [] }), 'an unknown user has no history');
  t.same(placed((await send('/v1/rank', { ...request, user: { ...request.user, user_id: 'never seen' }, history: events(3) })).body).length, 3, 'hashed ids are all known');
  t.match(await send('/v1/rank', { ...request, time: 5, userId: 'u100000' }), { status: 400, body: { error: { field: 'history[81].time' } } }, 'a clock behind the stored events');
  t.match(await send('/v1/histories/u2', { events: [{ ...events(1)[0]!, time: 0 }] }), { status: 400, body: { error: { field: 'events[0].time' } } });
  for (const value of ['NaN', '"1"', 'null', '1e999']) {
    const reply = await send('/v1/rank', JSON.stringify({ ...request, history: events(2) }).replace('"age":41', `"age":${value}`));
    t.equal(reply.status, 400, `age ${value}`);
  }
});

await t.test('nobody is answered with what is of another', async (t) => {
  for (const model of ['a', 'grows']) {
    const { send, service } = await served(t, {}, { slice: 2, rows: 7, events: 60, cacheBytes: 60_000 }, model);
    using ranker = await Ranker.open(join(root, model), { runtime });
    const next = random(9);
    const int = (n: number): number => Math.floor(next() * n);
    const wanted = new Map<number, number[]>();
    const lengths = Array.from({ length: 12 }, () => 0);
    for (let round = 0; round < 8; ++round) {
      for (let u = 0; u < 12; ++u) {
        const grown = Math.min(60, lengths[u]! + int(6));
        await send(`/v1/histories/u${u}`, { events: events(grown, u).slice(lengths[u]) });
        lengths[u] = grown;
        wanted.set(u, await alone(ranker, { ...request, context: { hour: u }, history: events(grown, u) }));
      }
      const calls = Array.from({ length: 36 }, () => int(12));
      const leaving = Array.from({ length: 6 }, () => service.rank({ ...request, context: { hour: 1 }, userId: `u${int(12)}` } as RankRequest, { signal: AbortSignal.timeout(1 + int(5)) }).catch(() => undefined));
      const replies = await Promise.all(calls.map((u) => send('/v1/rank', { ...request, context: { hour: u }, userId: `u${u}` })));
      replies.forEach(({ body }, i) => t.same(placed(body), wanted.get(calls[i]!), `${model}, round ${round}, user ${calls[i]}`));
      await Promise.all(leaving);
    }
    t.match(service.stats(), { waitingCalls: 0, waitingRows: 0 });
  }
});

await t.test('values that break who looks at them: 400 and the field, at once', async (t) => {
  const { send, service } = await served(t);
  await service.histories!.replace('u', events(3));
  const odd = { toString: 1, valueOf: 1, constructor: { name: { toString: 1 } } };
  const deep = JSON.parse('['.repeat(20_000) + ']'.repeat(20_000)) as unknown;
  for (const value of [odd, deep])
    for (const [over, field] of [
      [{ id: value }, 'id'], [{ topK: value }, 'topK'], [{ tasks: [value] }, 'tasks'], [{ explain: value }, 'explain'], [{ time: value }, 'time'], [{ userId: 'u', history: undefined, time: value }, 'time'], [{ historyStart: value }, 'historyStart'],
      [{ user: { ...request.user, user_id: value } }, 'user.user_id'], [{ user: { ...request.user, likes: [value] } }, 'user.likes[0]'], [{ history: [{ ...events(1)[0], item: value }] }, 'history[0].item'],
      [{ candidates: [{ item: 9, price: value }] }, 'candidates[0].price'],
    ] as const) {
      const text = JSON.stringify({ ...request, history: events(2), ...over }, (_, v: unknown) => (v === deep ? '\u0001' : v)).replace('"\\u0001"', '['.repeat(20_000) + ']'.repeat(20_000));
      t.match(await send('/v1/rank', text), { status: 400, body: { error: { field } } }, field);
    }
  t.match(await send('/v1/rank', { ...request, history: null }), { status: 400, body: { error: { field: 'history' } } });
  t.match(await send('/v1/rank', { ...request, history: null, userId: 'u' }), { status: 400, body: { error: { field: 'history' } } });
  t.match(await send('/v1/rank', { ...request, userId: 'u', time: 0.1 }), { status: 400, body: { error: { field: 'history[2].time' } } });
  const from = performance.now();
  const reply = await send('/v1/rank', { ...request, ['k'.repeat(900_000)]: 1 });
  t.match(reply, { status: 400, body: { error: { field: 'k'.repeat(60) } } });
  t.match(await send('/v1/rank', { ...request, history: [], tasks: Array.from({ length: 200_000 }, () => 'click') }), { status: 400, body: { error: { field: 'tasks' } } });
  t.ok(performance.now() - from < 1000, 'a name of megabytes is not compared letter by letter');
});

function plainEnv(): NodeJS.ProcessEnv {
  const env = { ...process.env };
  delete env['NODE_OPTIONS']; // tap's own loader
  delete env['LONGER_TOKEN'];
  delete env['LONGER_REDIS'];
  return env;
}

await t.test('a disk that is full: the log is lost, the service is not', async (t) => {
  const port = await freePort();
  const full = openSync('/dev/full', 'w');
  const child = spawn(process.execPath, ['--import', 'tsx', join(import.meta.dirname, '../lib/cli/main.ts'), 'serve', '--model', join(root, 'a'), '--port', String(port), '--timeout', '600000'], { env: plainEnv(), stdio: ['ignore', full, 'inherit'] });
  closeSync(full);
  const ended = once(child, 'exit');
  const rank = (): Promise<number | undefined> =>
    fetch(`http://127.0.0.1:${port}/v1/rank`, { method: 'POST', body: JSON.stringify({ ...request, history: [] }), headers: { 'content-type': 'application/json' } }).then((r) => r.status, () => undefined);
  while (child.exitCode === null && (await rank()) === undefined) await new Promise((resolve) => setTimeout(resolve, 100));
  for (let i = 0; i < 20; ++i) t.equal(await rank(), 200);
  child.kill('SIGTERM');
  t.same(await ended, [0, null]);
});

await t.test('log lines that could not be written are counted in front of the next one that can be', (t) => {
  let full = false;
  const written: string[] = [];
  const lines = new LogLines(1, ((_: number, bytes: Uint8Array, at: number) => {
    if (full) throw new Error('ENOSPC');
    const some = Math.min(3, bytes.length - at); // a few bytes at a time
    written.push(Buffer.from(bytes.subarray(at, at + some)).toString());
    return some;
  }) as never);
  lines.write('one\n');
  full = true;
  for (let i = 0; i < 3; ++i) lines.write('lost\n');
  full = false;
  for (const line of ['two\n', 'three\n']) lines.write(line);
  const [one, warning, ...rest] = written.join('').split('\n');
  t.same([one, ...rest], ['one', 'two', 'three', '']);
  t.match(JSON.parse(warning!), { level: 40, msg: /^3 lines/ });
  t.end();
});
