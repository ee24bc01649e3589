import { tableFromIPC, tableToIPC } from 'apache-arrow';
import t, { type Test } from 'tap';
import { Ranker } from '../lib/rank/ranker.ts';
import { arrowType } from '../lib/serve/arrow_body.ts';
import { MemoryHistoryStore } from '../lib/serve/history_store.ts';
import { rankServer } from '../lib/serve/http_server.ts';
import { RankService } from '../lib/serve/rank_service.ts';
import { arrowStream as encode, arrowTable } from './arrow_bodies.ts';
import { richSchema } from './helpers.ts';
import { request, runtime, saved } from './serve_helpers.ts';

async function served(t: Test) {
  const service = new RankService(await Ranker.open(await saved(t), { runtime }), 'a', { timeout: 600_000 }, { histories: new MemoryHistoryStore(richSchema) });
  const app = await rankServer({ service });
  t.teardown(async () => {
    await app.close();
    await service.close();
  });
  const send = async (payload: Buffer | object, accept?: string) => {
    const reply = await app.inject({ method: 'POST', url: '/v1/rank', payload, headers: { 'content-type': Buffer.isBuffer(payload) ? arrowType : 'application/json', ...(accept === undefined ? {} : { accept }) } });
    return { status: reply.statusCode, type: reply.headers['content-type'], raw: reply.rawPayload, json: () => reply.json() as { index: number[]; cache: string; model: string; logits: Record<string, number[]>; error?: { field: string; message: string } } };
  };
  return { service, send };
}

await t.test('an Arrow body gives what JSON gives, to the bit, with a history or a stored one', async (t) => {
  const { send, service } = await served(t);
  for (let seed = 1; seed < 6; ++seed) {
    const { history, ...rest } = request(seed, 1 + 9 * seed, 2 * seed);
    const wanted = (await send({ ...rest, history })).json();
    const got = await send(encode({ ...rest, history }));
    t.same(got.json(), { ...wanted, cache: 'hit' });
    const told = await send(encode({ ...rest, history, historyStart: 0, topK: 2, tasks: ['buy'] }), arrowType);
    t.equal(told.type, arrowType);
    const reply = tableFromIPC(told.raw);
    const json = (await send({ ...rest, history, topK: 2, tasks: ['buy'] })).json();
    t.same([...(reply.getChild('index')!.toArray() as Int32Array)], json.index);
    t.same(reply.getChild('logits.buy')!.toArray(), Float32Array.from(json.logits['buy']!));
    t.same(Object.fromEntries(reply.schema.metadata), { model: json.model, cache: 'hit' });
    await service.histories!.replace(`u${seed}`, history as never);
    t.same((await send(encode({ ...rest, userId: `u${seed}`, topK: null }))).json().logits, wanted.logits);
  }
});

await t.test('what is wrong with an Arrow body is 400 and named', async (t) => {
  const { send } = await served(t);
  const { history, ...rest } = request(1, 5, 3);
  const timeless = { user: rest.user, context: rest.context, candidates: rest.candidates };
  for (const [body, field] of [
    [encode({ ...rest, history, stranger: 1 }), 'stranger'],
    [encode({ ...timeless, history }), 'body'],
    [encode({ ...rest }), 'history'],
    [encode({ ...rest, history, topK: 0 }), 'topK'],
    [encode({ ...rest, history, tasks: ['like'] }), 'tasks'],
    [encode({ ...rest, history, user: { ...rest.user, age: NaN } }), 'user.age'],
    [encode({ ...rest, history }, { ...rest, history }), 'body'],
    [Buffer.alloc(0), 'body'],
    [Buffer.from('{}'), 'body'],
    [Buffer.from(tableToIPC(arrowTable([{ ...rest, history }]), 'file')), 'body'],
  ] as const) {
    const reply = await send(body);
    t.same([reply.status, reply.json().error?.field], [400, field]);
  }
});
