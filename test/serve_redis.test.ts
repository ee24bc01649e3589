import { join } from 'node:path';
import t from 'tap';
import { ModelDescription } from '../lib/model/model.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { MemoryHistoryStore } from '../lib/serve/history_store.ts';
import { rankServer } from '../lib/serve/http_server.ts';
import { RankService } from '../lib/serve/rank_service.ts';
import { RedisHistoryStore } from '../lib/serve/redis_history_store.ts';
import { trainDefaults } from '../lib/train/options.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { appendSafe, freePort, random, richSchema } from './helpers.ts';
import { noRedis, RedisServer } from './redis_server.ts';

if (noRedis !== undefined) t.plan(0, noRedis);
else await suite();

type Event = Record<string, number>;

async function suite(): Promise<void> {
  const redis = await RedisServer.started();
  const { url } = redis;
  t.teardown(() => redis.remove());
  const patient = { url, timeout: 60_000 };
  const next = random(3);
  const int = (n: number): number => Math.floor(next() * n);
  let time = 1000;
  const event = (): Event => ({ item: int(50), action: int(3), dwell: next() * 200, time: (time += int(50) + 0.1) });

  await t.test('whatever is done to it, it holds what the store in memory holds', async (t) => {
    for (const maxEvents of [7, 5000]) {
      using a = await RedisHistoryStore.connect(richSchema, { ...patient, maxEvents, prefix: `p${maxEvents}:` });
      using b = await RedisHistoryStore.connect(richSchema, { ...patient, maxEvents, prefix: `p${maxEvents}:` });
      const memory = new MemoryHistoryStore(richSchema, { maxEvents });
      for (let step = 0; step < 60; ++step) {
        const [user, store] = [`u:${int(3)}}{`, int(2) === 0 ? a : b];
        const events = Array.from({ length: int(6) }, event);
        const what = int(8);
        if (what === 0) t.equal(await store.delete(user), await memory.delete(user));
        else if (what === 1) t.equal(await store.replace(user, events), await memory.replace(user, events));
        else t.equal(await store.append(user, events), await memory.append(user, events));
        for (const reader of [a, b]) t.same(await reader.read(user), await memory.read(user));
      }
    }
  });

  await t.test('refuses what does not fit, and a long history is one write', async (t) => {
    using store = await RedisHistoryStore.connect(richSchema, patient);
    const events = Array.from({ length: 9000 }, event);
    t.equal(await store.replace('long', events), 9000);
    t.same((await store.read('long')).events, events);
    t.equal(await store.read('long'), await store.read('long'), 'what did not change is not read twice');
    await t.rejects(store.append('long', [events[0]!]), { code: 'ERR_DATA', place: 'events[0].time' });
    await t.rejects(store.append('long', [{ ...event(), item: 99 }]), { code: 'ERR_DATA', place: 'events[0].item' });
    t.equal((await store.read('long')).events.length, 9000);
    using short = await RedisHistoryStore.connect(richSchema, { ...patient, ttl: 0.1 });
    await short.append('gone', [event()]);
    while ((await short.read('gone')).events.length > 0) await new Promise((resolve) => setTimeout(resolve, 50));
  });

  await t.test('who was ranked last is noted by replica, bounded, and forgotten with the history', async (t) => {
    const options = { ...patient, maxRanked: 4, prefix: 'note:' };
    using a = await RedisHistoryStore.connect(richSchema, { ...options, replica: 'a' });
    using b = await RedisHistoryStore.connect(richSchema, { ...options, replica: 'b' });
    t.same(await a.rankedLast(), []);
    await a.ranked([]);
    const moment = Date.now();
    const clock = t.intercept(Date, 'now', { value: () => moment });
    await a.ranked(['u1', 'u2', 'u3']);
    await a.ranked(['u2', 'u4', 'u5']); // in the same millisecond
    clock.restore();
    t.same(await a.rankedLast(), ['u5', 'u4', 'u2', 'u3']);
    await a.append('u4', [event()]);
    t.equal(await a.delete('u4'), true);
    t.same(await a.rankedLast(), ['u5', 'u2', 'u3']);
    await a.ranked(['x1', 'x2', 'x3', 'x4', 'x5', 'x6']);
    t.same([await a.rankedLast(), await b.rankedLast()], [['x6', 'x5', 'x4', 'x3'], []]);
    using brief = await RedisHistoryStore.connect(richSchema, { ...options, replica: 'a', ttl: 0.001 });
    await new Promise((resolve) => setTimeout(resolve, 10));
    await brief.ranked(['y']);
    t.same(await a.rankedLast(), ['y'], 'nobody is noted for longer than a history is kept');
  });

  await t.test('Redis gone and back: the service says so at once, serves who brings a history, and goes on', async (t) => {
    const runtime = new Runtime({ threads: 2 });
    const trainer = new Trainer(new ModelDescription(richSchema, appendSafe), { ...trainDefaults, seed: 1 }, runtime);
    const model = join(t.testdir(), 'model');
    await trainer.save(model, {});
    trainer.dispose();
    const store = await RedisHistoryStore.connect(richSchema, patient);
    const service = new RankService(await Ranker.open(model, { runtime }), 'a', { timeout: 600_000 }, { histories: store });
    const app = await rankServer({ service });
    t.teardown(async () => {
      await app.close();
      await service.close();
      store[Symbol.dispose]();
      runtime.dispose();
    });
    const history = Array.from({ length: 10 }, event);
    const rest = { user: { user_id: 'u1', age: 41, likes: [3, 4] }, context: { hour: 7 }, time: time + 10, candidates: [{ item: 9, price: 1.5 }, { item: 10, price: 2 }] };
    const rank = async (body: object): Promise<{ status: number; body: { logits?: object; error?: { code: string } } }> => {
      const reply = await app.inject({ method: 'POST', url: '/v1/rank', payload: body });
      return { status: reply.statusCode, body: reply.json() };
    };
    const written = await app.inject({ method: 'POST', url: '/v1/histories/u1', payload: { events: history } });
    t.same(written.json(), { events: 10 });
    const before = await rank({ ...rest, userId: 'u1' });
    t.equal(before.status, 200);
    await redis.kill();
    const without = await rank({ ...rest, userId: 'u1' });
    t.same([without.status, without.body.error?.code], [503, 'ERR_UNAVAILABLE']);
    t.same((await rank({ ...rest, history })).body.logits, before.body.logits);
    await redis.start();
    let after = await rank({ ...rest, userId: 'u1' });
    while (after.status === 503) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      after = await rank({ ...rest, userId: 'u1' });
    }
    t.same(after.body.logits, before.body.logits, 'nothing was lost');
  });

  await t.test('no Redis at all is named', async (t) => {
    await t.rejects(RedisHistoryStore.connect(richSchema, { url: `redis://127.0.0.1:${await freePort()}`, timeout: 300 }), { code: 'ERR_UNAVAILABLE', place: 'histories', message: /ECONNREFUSED/ });
    for (const url of ['', 'localhost:6379', 'http://127.0.0.1', 'redis://:secret@127.0.0.1:99999'])
      await t.rejects(RedisHistoryStore.connect(richSchema, { url }), { code: 'ERR_CONFIG', place: 'histories', cause: undefined, message: /^(?!.*secret)/ }, url);
    for (const [place, value] of [['maxEvents', 0], ['maxRanked', 0.5], ['ttl', -1], ['timeout', NaN]] as const) await t.rejects(RedisHistoryStore.connect(richSchema, { url, [place]: value }), { code: 'ERR_CONFIG', place });
  });
}
