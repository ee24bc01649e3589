import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { LongerError } from '../lib/errors.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { RankClient } from '../lib/serve/client.ts';
import { type HistoryStore, MemoryHistoryStore } from '../lib/serve/history_store.ts';
import { RankedUsers } from '../lib/serve/ranked_users.ts';
import type { RankServiceOptions } from '../lib/serve/rank_options.ts';
import { RankService } from '../lib/serve/rank_service.ts';
import { appendSafe, banded, richSchema, tiny } from './helpers.ts';
import { noRedis, RedisServer } from './redis_server.ts';
import { request, type Request, runtime, saved, scores, unordered } from './serve_helpers.ts';
import { ServeProcess } from './serve_process.ts';

type Spec = (typeof richSchema)['spec'];
type Events = Record<string, number>[];

const eventsOf = (r: Request): Events => r.history as unknown as Events;
/** A call for the stored history of a user. */
const asking = ({ user, context, time, candidates }: Request, userId: string): Request => ({ user, context, time, candidates, userId });

/** A store that notes who was ranked, as one does that outlives the process. */
class NotingStore extends MemoryHistoryStore implements HistoryStore {
  noted: string[] = [];
  reads: string[] = [];
  away = false;

  override async read(user: string) {
    this.reads.push(user);
    if (this.away) throw new LongerError('ERR_UNAVAILABLE', 'away');
    return super.read(user);
  }

  async ranked(users: readonly string[]): Promise<void> {
    if (this.away) throw new LongerError('ERR_UNAVAILABLE', 'away');
    this.noted = [...users.toReversed(), ...this.noted.filter((u) => !users.includes(u))];
  }

  async rankedLast(): Promise<readonly string[]> {
    return this.noted;
  }
}

async function over(t: Test, directory: string, histories: HistoryStore, options: Partial<RankServiceOptions> = {}): Promise<RankService> {
  const service = new RankService(await Ranker.open(directory, { runtime }), 'a', { timeout: 600_000, cacheBytes: 2 ** 21, ...options }, { histories });
  t.teardown(() => service.close());
  return service;
}

/** Users with histories, all ranked, the last one last. */
async function ranked(t: Test, directory: string, users: number): Promise<{ store: NotingStore; asked: Request[] }> {
  const store = new NotingStore(richSchema);
  const service = await over(t, directory, store);
  const asked = Array.from({ length: users }, (_, u) => request(1 + u, 30, 3));
  for (const [u, r] of asked.entries()) {
    await store.replace(`u${u}`, eventsOf(r));
    await service.rank(asking(r, `u${u}`));
  }
  await service.close();
  return { store, asked };
}

await t.test('a service that starts over a store is warm for those who were ranked last, in that order', async (t) => {
  for (const [config, grows] of [[appendSafe, true], [banded, true], [tiny, false]] as const) {
    const directory = await saved(t, 1, config);
    using ranker = await Ranker.open(directory, { runtime });
    const { store, asked } = await ranked(t, directory, 9);
    store.reads = [];
    const service = await over(t, directory, store);
    t.match(await service.warm(), { users: 9, caches: grows ? 9 : 0, failed: undefined });
    t.same(store.reads, ['u8', 'u7', 'u6', 'u5', 'u4', 'u3', 'u2', 'u1', 'u0']);
    t.match(service.stats(), { prefills: 0, calls: 0, cache: { misses: 0 } }, 'warming is no call');
    for (const [u, r] of asked.entries()) {
      const result = await service.rank(asking(r, `u${u}`));
      t.same(unordered(result, 'buy'), (await scores(ranker, r))['buy'], 'the bits of the Ranker alone');
      t.equal(result.cache, grows ? 'grown' : 'miss');
    }
    t.equal(service.stats().prefills, grows ? 0 : 9);
  }
});

await t.test('a warm-up ends with its time, its pages, its store and its service, and leaves out what does not fit', async (t) => {
  const directory = await saved(t, 1, appendSafe);
  const { store } = await ranked(t, directory, 9);
  const warmed = async (options: Partial<RankServiceOptions>): Promise<object> => (await over(t, directory, store, options)).warm();
  t.match(await warmed({ warmup: 0 }), { caches: 0, failed: undefined });
  const { cache } = (await over(t, directory, store)).stats();
  const service = await over(t, directory, store);
  const { caches } = await service.warm();
  const pages = service.stats().cache.pagesUsed / caches;
  t.match(await warmed({ cacheBytes: 5 * pages * (cache.budget / cache.pages) }), { caches: 5 });
  const read = store.read.bind(store);
  store.read = async (user) => {
    if (user === 'u5') return { events: [{ item: 99 }], dropped: 0 };
    if (user === 'u4') return { events: [], dropped: 0 };
    return read(user);
  };
  t.match(await warmed({}), { users: 7, caches: 7, failed: undefined });
  store.read = async (user) => {
    if (user === 'u6') store.away = true;
    return read(user);
  };
  t.match(await warmed({}), { users: 2, caches: 2, failed: { code: 'ERR_UNAVAILABLE' } });
  store.away = false;
  const closing = await over(t, directory, store);
  store.read = async (user) => {
    if (user === 'u6') void closing.close();
    return read(user);
  };
  t.match(await closing.warm(), { caches: 2, failed: undefined });
  t.match(await (await over(t, directory, new MemoryHistoryStore(richSchema))).warm(), { users: 0, caches: 0 }, 'a store that notes nobody');
});

await t.test('who was ranked is noted once a second, at the end, and again where the store was away', async (t) => {
  const store = new NotingStore(richSchema);
  const noted = new RankedUsers(store);
  for (const user of ['a', 'b', 'a', 'c']) noted.add(user);
  t.same(store.noted, []);
  while (store.noted.length === 0) await sleep(20);
  t.same(store.noted, ['c', 'a', 'b']);
  store.away = true;
  noted.add('d');
  await noted.close();
  store.away = false;
  noted.add('e');
  await noted.close();
  t.same(store.noted, ['e', 'd', 'c', 'a', 'b']);
});

/** Ranks and appends for users of its own until the service is gone. */
class Caller {
  readonly #client: RankClient<Spec>;
  readonly users: ReadonlyMap<string, Request>;
  /** Events of each user that were acknowledged, and those of a call that the kill cut off. */
  readonly had = new Map<string, number>();
  readonly asked = new Map<string, number>();
  ranks = 0;

  constructor(url: string, users: ReadonlyMap<string, Request>) {
    this.#client = new RankClient<Spec>(url);
    this.users = users;
  }

  async run(): Promise<void> {
    try {
      for (const [user, r] of this.users) this.had.set(user, (await this.#client.replaceHistory(user, eventsOf(r).slice(0, 20) as never)).events);
      for (;;)
        for (const [user, r] of this.users) {
          const n = this.had.get(user)!;
          const more = eventsOf(r).slice(n, n + 2);
          this.asked.set(user, n + more.length);
          this.had.set(user, (await this.#client.appendHistory(user, more as never)).events);
          await this.#client.rank(asking(r, user));
          ++this.ranks;
        }
    } catch (error) {
      if (error instanceof LongerError && error.cause === undefined) throw error; // an answer; a connection that broke is none
    }
  }
}

await t.test('kill -9 under traffic, and a start from Redis: no event that was acknowledged is lost, the same bits, no prefill', { skip: noRedis ?? false }, async (t) => {
  const redis = await RedisServer.started();
  t.teardown(() => redis.remove());
  const model = await saved(t, 1, appendSafe);
  using ranker = await Ranker.open(model, { runtime });
  const args = ['--model', model, '--redis', redis.url, '--cache-mb', '8', '--replica', 'longer-0'];
  let service = new ServeProcess(...args);
  let url = await service.ready();
  const callers = Array.from({ length: 3 }, (_, c) => new Caller(url, new Map(Array.from({ length: 4 }, (_, u) => [`u${c}${u}`, request(1 + 10 * c + u, 2000, 3)]))));
  const running = callers.map((caller) => caller.run());
  while (callers.some((caller) => caller.ranks < 8)) await sleep(20);
  await sleep(1500); // a note was written meanwhile
  await service.end('SIGKILL');
  await Promise.all(running);
  t.comment(`${callers.reduce((n, c) => n + c.ranks, 0)} calls were answered before the kill`);

  service = new ServeProcess(...args);
  t.teardown(() => service.end('SIGKILL'));
  url = await service.ready();
  t.match(service.said, /12 histories read and 12 caches made of the users ranked last, in \d+ ms/);
  const client = new RankClient<Spec>(url);
  for (const caller of callers)
    for (const [user, r] of caller.users) {
      const { events } = await client.appendHistory(user, []);
      t.ok(events === caller.had.get(user) || events === caller.asked.get(user), `${user}: ${events} events, ${caller.had.get(user)} acknowledged`);
      const reply = await client.rank(asking(r, user));
      t.equal(reply.cache, 'grown');
      const { click } = await scores(ranker, { ...r, history: eventsOf(r).slice(0, events) as never });
      t.same(reply.logits.click, reply.index.map((place) => click![place]), user);
    }
  t.match(await (await fetch(`${url}/metrics`)).text(), /^longer_prefills_total 0$/m);
  t.same(await service.end('SIGTERM'), [0, null]);
});

await t.test('kill -9 without Redis: histories are gone, and back when they are replayed', async (t) => {
  const model = await saved(t, 1, appendSafe);
  const r = request(1, 20, 3);
  const told = [];
  for (const round of [0, 1]) {
    const service = new ServeProcess('--model', model, '--cache-mb', '8');
    const client = new RankClient<Spec>(await service.ready());
    const bare = await client.rank(asking(r, 'u'));
    t.same(bare.logits, (await client.rank({ ...r, history: [] })).logits, `start ${round}: nobody is known`);
    await client.replaceHistory('u', r.history as never);
    told.push((await client.rank(asking(r, 'u'))).logits);
    await service.end('SIGKILL');
  }
  t.same(told[1], told[0]);
});
