import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fastify from 'fastify';
import t, { type Test } from 'tap';
import { ModelDescription } from '../lib/model/model.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { encodeRequest } from '../lib/schema/encode.ts';
import { RankClient } from '../lib/serve/client.ts';
import { MemoryHistoryStore } from '../lib/serve/history_store.ts';
import { rankPlugin } from '../lib/serve/http_plugin.ts';
import { type HttpOptions, rankServer } from '../lib/serve/http_server.ts';
import { RankService } from '../lib/serve/rank_service.ts';
import { sigmoid } from '../lib/train/metrics.ts';
import { trainDefaults } from '../lib/train/options.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { richSchema, tiny } from './helpers.ts';

const runtime = new Runtime({ threads: 2 });
const root = mkdtempSync(join(tmpdir(), 'longer-http-'));
t.teardown(() => {
  runtime.dispose();
  rmSync(root, { recursive: true });
});
for (const [name, seed] of [['a', 1], ['b', 2]] as const) {
  const trainer = new Trainer(new ModelDescription(richSchema, tiny), { ...trainDefaults, seed }, runtime);
  await trainer.save(join(root, name), {});
  trainer.dispose();
}

type Spec = (typeof richSchema)['spec'];
const history = [{ item: 1, action: 0, dwell: 5, time: 10 }, { item: 2, action: 2, dwell: 50, time: 8000 }];
const request = {
  user: { user_id: 'u1', age: 41, likes: [3, 4] }, context: { hour: 7 }, time: 9000, history,
  candidates: [{ item: 9, price: 1.5 }, { item: 10, price: 2 }, { item: 11, price: 0.5 }],
};

async function served(t: Test, options: Partial<HttpOptions> = {}, limits: object = {}): Promise<{ url: string; service: RankService }> {
  const open = (directory: string): Promise<Ranker> => Ranker.open(directory, { runtime });
  const service = new RankService(await open(join(root, 'a')), 'a', { timeout: 600_000, ...limits }, { open, histories: new MemoryHistoryStore(richSchema) });
  const app = await rankServer({ service, models: root, ...options });
  t.teardown(async () => {
    await app.close();
    await service.close();
  });
  return { url: await app.listen({ port: 0, host: '127.0.0.1' }), service };
}

const post = (url: string, body: string, headers: Record<string, string> = {}): Promise<Response> => fetch(url, { method: 'POST', body, headers: { 'content-type': 'application/json', ...headers } });

await t.test('the client gets the bits of the Ranker', async (t) => {
  const { url } = await served(t);
  const client = new RankClient<Spec>(url);
  using ranker = await Ranker.open(join(root, 'a'), { runtime });
  const logits = await ranker.score(await ranker.prefill([encodeRequest(richSchema, request)]));
  const reply = await client.rank(request);
  t.same(reply.index.map((place) => logits[2 * place]), reply.logits.click);
  t.same(reply.index.map((place) => logits[2 * place + 1]), reply.logits.buy);
  t.same(reply.logits.click!.map(sigmoid), reply.probabilities.click);
  t.equal((await client.rank({ ...request, topK: 1 })).cache, 'hit');

  t.same(await client.appendHistory('ü/1', history), { events: 2 });
  const stored = { user: request.user, context: request.context, time: request.time, candidates: request.candidates, userId: 'ü/1' };
  t.same((await client.rank(stored)).logits, reply.logits);
  await t.rejects(client.appendHistory('ü/1', history), { code: 'ERR_DATA', place: 'events[0].time' });
  t.same(await client.replaceHistory('ü/1', history.slice(1)), { events: 1 });
  t.same([await client.deleteHistory('ü/1'), await client.deleteHistory('ü/1')], [{ deleted: true }, { deleted: false }]);
  await t.rejects(client.rank({ ...request, user: { ...request.user, age: NaN } }), { code: 'ERR_DATA', place: 'age' });

  const { serving } = await client.loadModel('b');
  const after = await client.rank(request);
  t.equal(after.model, serving.version);
  t.notSame(after.logits, reply.logits);
  for (const name of ['../a', '.', '', 'none']) await t.rejects(client.loadModel(name), { code: /ERR_(DATA|CHECKPOINT)/ });
  t.equal((await client.rank(request)).model, serving.version);
});

await t.test('what is wrong is 400 and names the field; limits and deadlines hold', async (t) => {
  const { url, service } = await served(t, { bodyLimit: 20_000 }, { maxCandidates: 3, maxEvents: 2 });
  const rank = `${url}/v1/rank`;
  const wrong: [object, string][] = [
    [{ ...request, candidates: [...request.candidates, { item: 1, price: 1 }] }, 'candidates'],
    [{ ...request, history: [...history, ...history] }, 'history'],
    [{ ...request, candidates: [{ item: 50, price: 1 }] }, 'candidates[0].item'],
    [{ ...request, candidates: [{ item: '9', price: 1 }] }, 'candidates[0].item'],
    [{ ...request, user: { user_id: 'u' } }, 'user.age'],
    [{ ...request, topk: 1 }, 'topk'],
    [{ ...request, time: 5 }, 'history[0].time'],
    [{ ...request, userId: 7 }, 'userId'],
    [[], 'body'],
  ];
  for (const [body, field] of wrong) {
    const reply = await post(rank, JSON.stringify(body));
    t.same([reply.status, ((await reply.json()) as { error: { field: string } }).error.field], [400, field]);
  }
  t.equal((await post(rank, JSON.stringify({ ...request, candidates: [] }))).status, 200, 'no candidate');
  t.equal((await post(rank, JSON.stringify({ ...request, history: [] }))).status, 200, 'no event');
  t.equal((await post(rank, '{"user":')).status, 400);
  t.equal((await post(rank, `"${'x'.repeat(30_000)}"`)).status, 413);
  t.equal((await post(rank, 'a', { 'content-type': 'text/html' })).status, 415);
  t.equal((await post(rank, JSON.stringify(request), { 'x-deadline-ms': 'soon' })).status, 400);
  t.equal((await post(rank, JSON.stringify(request), { 'x-deadline-ms': '0.0001' })).status, 504);
  t.equal((await fetch(`${url}/v1/nothing`)).status, 404);
  t.match(service.stats(), { waitingCalls: 0, waitingRows: 0, late: 1 });
});

await t.test('a full queue answers 503 at once', async (t) => {
  const { url, service } = await served(t, {}, { maxCalls: 1, window: 2_000_000, timeout: 60_000 });
  const first = post(`${url}/v1/rank`, JSON.stringify(request));
  while (service.stats().waitingCalls === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  const second = await post(`${url}/v1/rank`, JSON.stringify(request));
  t.equal(second.status, 503);
  t.equal(second.headers.get('retry-after'), '1');
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.write('POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\ncontent-type: application/json\r\n\r\n{');
  const [answer] = (await once(socket, 'data')) as [Buffer];
  t.match(String(answer), /^HTTP\/1.1 503 /, 'before the body is there');
  socket.destroy();
  t.equal((await first).status, 200);
  t.equal(service.stats().refused, 2);
});

await t.test('a token, and logs that name nobody', async (t) => {
  const lines: string[] = [];
  const { url } = await served(t, { token: 'secret', logLevel: 'info', logStream: { write: (line) => { lines.push(line); } } });
  t.equal((await post(`${url}/v1/rank`, JSON.stringify(request))).status, 401);
  t.equal((await fetch(`${url}/metrics`)).status, 401);
  t.equal((await fetch(`${url}/v1/histories/anna`, { method: 'DELETE', headers: { authorization: 'Bearer wrong' } })).status, 401);
  t.equal((await fetch(`${url}/healthz`)).status, 200);
  const client = new RankClient<Spec>(url, { token: 'secret' });
  await client.rank({ ...request, user: { ...request.user, user_id: 'anna' } });
  await client.appendHistory('anna', history);
  await t.rejects(client.appendHistory('anna', history), { code: 'ERR_DATA' });
  const log = lines.join('');
  t.match(log, /"route":"\/v1\/histories\/:user","status":400/);
  t.notMatch(log, /anna|secret|127\.0\.0\.1:\d+"?,"remote/);
});

await t.test('metrics and the OpenAPI document', async (t) => {
  const { url } = await served(t);
  const client = new RankClient<Spec>(url);
  await client.rank(request);
  await client.rank(request);
  const metrics = await (await fetch(`${url}/metrics`)).text();
  for (const line of ['longer_calls_total 2', 'longer_cache_hits_total 1', 'longer_prefills_total 1', 'longer_candidates_total 6', 'longer_http_seconds_count{route="/v1/rank",status="200"} 2']) t.ok(metrics.includes(line), line);
  const document = (await (await fetch(`${url}/openapi.json`)).json()) as { openapi: string; paths: Record<string, { post?: { requestBody: { content: Record<string, { schema: { properties: object; required: string[] } }> } } }> };
  t.match(document.openapi, /^3\./);
  t.same(Object.keys(document.paths).sort(), ['/healthz', '/metrics', '/readyz', '/v1/histories/{user}', '/v1/models', '/v1/rank']);
  const body = document.paths['/v1/rank']!.post!.requestBody.content['application/json']!.schema;
  t.same(body.required, ['user', 'context', 'time', 'candidates']);
  t.match(body.properties, { user: { properties: { user_id: { type: ['integer', 'string'] }, likes: { type: 'array', items: { maximum: 49 } } } }, topK: { type: 'integer' } });
});

await t.test('inside an app that has routes of its own', async (t) => {
  const service = new RankService(await Ranker.open(join(root, 'a'), { runtime }), 'a');
  const app = fastify();
  app.get('/mine', () => 'mine');
  await app.register(rankPlugin, { service, prefix: '/rank', token: 's' });
  t.teardown(async () => {
    await app.close();
    await service.close();
  });
  t.equal((await app.inject('/mine')).body, 'mine');
  t.equal((await app.inject('/rank/healthz')).statusCode, 200);
  t.equal((await app.inject({ method: 'POST', url: '/rank/v1/rank', payload: request })).statusCode, 401);
  t.equal((await app.inject({ method: 'POST', url: '/rank/v1/rank', payload: request, headers: { authorization: 'Bearer s' } })).statusCode, 200);
});

await t.test('a client that leaves, and one that never finishes its request', async (t) => {
  const { url, service } = await served(t, { patience: 2000 }, { window: 60_000 });
  const stop = new AbortController();
  const left = fetch(`${url}/v1/rank`, { method: 'POST', body: JSON.stringify(request), headers: { 'content-type': 'application/json' }, signal: stop.signal });
  while (service.stats().waitingCalls === 0 && service.stats().rows === 0) await new Promise((resolve) => setImmediate(resolve));
  stop.abort();
  await t.rejects(left);
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.on('error', () => undefined);
  socket.write('POST /v1/rank HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\ncontent-type: application/json\r\n\r\n{');
  socket.resume();
  await once(socket, 'close');
  while (service.stats().waitingCalls > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  t.equal((await post(`${url}/v1/rank`, JSON.stringify(request))).status, 200);
});

await t.test('longer serve: listens at loopback, drains on SIGTERM, exits 0', async (t) => {
  const env = { ...process.env };
  delete env['NODE_OPTIONS']; // tap's own loader
  delete env['LONGER_TOKEN'];
  const run = (...args: string[]): ReturnType<typeof spawn> => spawn(process.execPath, ['--import', 'tsx', join(import.meta.dirname, '../lib/cli/main.ts'), 'serve', '--model', join(root, 'a'), ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const open = run('--host', '0.0.0.0');
  t.same(await once(open, 'exit'), [2, null], 'an open address needs a token');
  const child = run('--port', '0', '--log', 'silent', '--timeout', '600000');
  let said = '';
  for await (const chunk of child.stdout!) {
    said += String(chunk);
    if (said.includes('\n')) break;
  }
  const url = /at (http:\/\/127\.0\.0\.1:\d+)/.exec(said)![1]!;
  const ranked = await Promise.all(Array.from({ length: 4 }, () => new RankClient<Spec>(url).rank(request)));
  t.equal(ranked.length, 4);
  child.kill('SIGTERM');
  t.same(await once(child, 'exit'), [0, null]);
});
