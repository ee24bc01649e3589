import { mkdtempSync, rmSync, truncateSync, readdirSync, copyFileSync, mkdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import type { ModelConfig } from '../lib/model/config.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { Runtime } from '../lib/native/plan.ts';
import { type Prefilled, Ranker } from '../lib/rank/ranker.ts';
import { encodeRequest } from '../lib/schema/encode.ts';
import { LruCacheStore } from '../lib/serve/cache_store.ts';
import { EncodedHistories } from '../lib/serve/encoded_histories.ts';
import { MemoryHistoryStore, type StoredHistory } from '../lib/serve/history_store.ts';
import type { StoredEvent } from '../lib/serve/stored_events.ts';
import type { RankRequest } from '../lib/serve/rank_call.ts';
import { RankService } from '../lib/serve/rank_service.ts';
import { ranked, type RankResult } from '../lib/serve/ranking.ts';
import type { RankServiceOptions } from '../lib/serve/rank_options.ts';
import { ServedModel } from '../lib/serve/served_model.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { trainDefaults } from '../lib/train/options.ts';
import { appendSafe, banded, models, random, richSchema, tiny } from './helpers.ts';

const runtime = new Runtime({ threads: 2 });
t.teardown(() => { runtime.dispose(); });

type Request = RankRequest<(typeof richSchema)['spec']>;

function request(seed: number, events = 12, candidates = 5): Request {
  const next = random(seed);
  const int = (n: number): number => Math.floor(next() * n);
  let time = 1000;
  return {
    user: { user_id: `u${int(1000)}`, age: 20 + int(40), likes: Array.from({ length: int(4) }, () => int(50)) },
    context: { hour: int(24) },
    history: Array.from({ length: events }, () => ({ item: int(50), action: int(3), dwell: next() * 200, time: (time += int(500)) })),
    time: time + int(1000),
    candidates: Array.from({ length: candidates }, () => ({ item: int(50), price: next() * 3 })),
  };
}

/** A model of its own values for each seed, saved. */
async function saved(t: Test, seed = 1, config: ModelConfig = tiny): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'longer-serve-'));
  t.teardown(() => { rmSync(directory, { recursive: true }); });
  const trainer = new Trainer(new ModelDescription(richSchema, config), { ...trainDefaults, seed }, runtime);
  await trainer.save(directory, {});
  trainer.dispose();
  return directory;
}

async function service(t: Test, directory: string, options: Partial<RankServiceOptions> = {}): Promise<RankService> {
  const made = new RankService(await Ranker.open(directory, { runtime }), 'first', { timeout: 600_000, ...options }, {
    open: (d) => Ranker.open(d, { runtime }), histories: new MemoryHistoryStore(richSchema),
  });
  t.teardown(() => made.close());
  return made;
}

/** What the Ranker gives alone, ordered as the service orders it. */
async function alone(directory: string, r: Request): Promise<Record<string, number[]>> {
  using ranker = await Ranker.open(directory, { runtime });
  return await scores(ranker, r);
}

async function scores(ranker: Ranker, r: Request): Promise<Record<string, number[]>> {
  const logits = await ranker.score(await ranker.prefill([encodeRequest(richSchema, r as never)]));
  const n = logits.length / 2;
  return { click: Array.from({ length: n }, (_, i) => logits[2 * i]!), buy: Array.from({ length: n }, (_, i) => logits[2 * i + 1]!) };
}

function unordered(result: RankResult, task: string): number[] {
  const out: number[] = [];
  result.index.forEach((place, i) => { out[place] = result.logits[task]![i]!; });
  return out;
}

await t.test('in a crowd, in slices and from the cache: the bits of the Ranker alone, for every model', async (t) => {
  for (const [name, config] of Object.entries(models)) {
    const directory = await saved(t, 1, config);
    const ranks = await service(t, directory, { slice: 2, rows: 5, events: 30 });
    const all = [request(1, 0, 3), request(2, 24, 9), request(3, 5, 1), request(4, 40, 4), request(5, 1, 0)];
    const wanted = await Promise.all(all.map((r) => alone(directory, r)));
    for (const cache of ['miss', 'hit']) {
      const results = await Promise.all(all.map((r) => ranks.rank(r)));
      results.forEach((result, i) => {
        if (result.cache !== cache) t.fail(`${name}: ${cache} expected`);
        for (const task of ['click', 'buy']) t.same(unordered(result, task), wanted[i]![task], `${name}: request ${i}, ${task}, ${cache}`);
        const first = [...result.logits['click']!];
        t.same(first, [...first].sort((a, b) => b - a), 'best first');
      });
    }
    await ranks.close();
  }
});

await t.test('a mutated input never hits, and an equal one always does', async (t) => {
  const ranker = await Ranker.open(await saved(t), { runtime });
  t.teardown(() => { ranker.dispose(); });
  const served = new ServedModel(ranker, 'a');
  const again = new ServedModel(ranker, 'a');
  const key = (r: Request, model = served, owner = 'o'): string => model.prefix(encodeRequest(richSchema, r as never), owner).key;
  const base = request(7, 10, 2);
  const history = base.history as unknown as Record<string, number>[];
  t.equal(key(base), key(structuredClone(base)));
  t.equal(key(base), key({ ...base, candidates: [] }), 'candidates take no part');
  t.not(key(base), key(base, again), 'the same files loaded twice are two versions');
  t.not(key(base), key(base, served, 'another'), 'users share nothing');
  type Mutation = (r: Request) => Request;
  const event = (i: number, over: object): Mutation => (r) => ({ ...r, history: history.map((e, j) => (i === j ? { ...e, ...over } : e)) as never });
  const mutations = fc.oneof(
    fc.integer({ min: 0, max: 9 }).map((i) => event(i, { item: (history[i]!['item']! + 1) % 50 })),
    fc.integer({ min: 0, max: 9 }).map((i) => event(i, { action: (history[i]!['action']! + 1) % 3 })),
    fc.integer({ min: 0, max: 9 }).map((i) => event(i, { time: history[i]!['time']! + 1e-7 })),
    fc.integer({ min: 1, max: 9 }).map((n): Mutation => (r) => ({ ...r, history: history.slice(n) as never })),
    fc.integer({ min: 0, max: 9 }).map((n): Mutation => (r) => ({ ...r, history: history.slice(0, n) as never })),
    fc.constant((r: Request): Request => ({ ...r, time: r.time + 1e-7 })),
    fc.constant((r: Request): Request => ({ ...r, user: { ...r.user, age: Number(r.user.age) + 1 } })),
    fc.constant((r: Request): Request => ({ ...r, user: { ...r.user, user_id: `${r.user.user_id}x` } })),
    fc.constant((r: Request): Request => ({ ...r, user: { ...r.user, likes: [...r.user.likes, 3] } })),
    fc.constant((r: Request): Request => ({ ...r, context: { hour: (r.context.hour as number) === 3 ? 4 : 3 } })),
  );
  // What the key must tell apart is what makes another cache: ask the model itself.
  for (const config of [tiny, models['anchored']!, banded, models['base']!]) {
    const ranker = await Ranker.open(await saved(t, 1, config), { runtime });
    t.teardown(() => { ranker.dispose(); });
    const served = new ServedModel(ranker, 'a');
    await fc.assert(fc.asyncProperty(mutations, async (mutate) => {
      const changed = mutate(base);
      const [a, b] = [encodeRequest(richSchema, base as never), encodeRequest(richSchema, { ...changed, candidates: base.candidates } as never)];
      const [x, y] = [served.prefix(a, 'o'), served.prefix(b, 'o')];
      if (x.key !== y.key) return;
      const [cache] = await served.prefill([x]);
      const [mixed] = await served.score([{ prefix: y, value: cache! }], [b]);
      t.same(mixed, await ranker.score(await ranker.prefill([b])), 'a key may only be shared where the cache of one gives the scores of the other');
    }), { numRuns: 100, seed: 5 });
  }
  for (const mutate of [event(3, { item: (history[3]!['item']! + 1) % 50 }), (r: Request): Request => ({ ...r, user: { ...r.user, age: Number(r.user.age) + 1 } }), (r: Request): Request => ({ ...r, time: r.time + 1 })])
    t.not(key(base), key(mutate(base)));
});

await t.test('the cache keeps its budget, what is used, and nothing that is too old', (t) => {
  let now = 0;
  const store = new LruCacheStore({ budget: 100, ttl: 10, now: () => now });
  const value = {} as Prefilled;
  const put = (key: string, bytes: number, group = 'a'): void => { store.insert(key, group, value, bytes).release(); };
  put('x', 40);
  put('y', 40);
  store.acquire('x')!.release();
  put('z', 40);
  t.equal(store.acquire('y'), undefined, 'used longest ago');
  const pinned = store.acquire('x')!;
  put('w', 60);
  t.match(store.stats(), { entries: 2, bytes: 100, evictions: 2 }, 'z left, x is pinned');
  put('v', 70);
  t.equal(store.stats().refused, 1, 'w alone would not make room');
  store.drop('a');
  t.match(store.stats(), { entries: 0, bytes: 40 }, 'pinned bytes count until the release');
  pinned.release();
  pinned.release();
  t.equal(store.stats().bytes, 0);
  put('u', 10);
  now = 10_000;
  t.equal(store.acquire('u'), undefined, 'too old');
  t.match(store.stats(), { expired: 1, bytes: 0, entries: 0 });
  t.end();
});

await t.test('any sequence of cache operations keeps the sum of its bytes', (t) => {
  const operation = fc.record({ what: fc.constantFrom('acquire', 'insert', 'release', 'drop'), key: fc.integer({ min: 0, max: 5 }), bytes: fc.integer({ min: 1, max: 70 }), group: fc.constantFrom('a', 'b') });
  fc.assert(fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
    const store = new LruCacheStore({ budget: 100 });
    const pins: { release(): void }[] = [];
    for (const { what, key, bytes, group } of operations) {
      if (what === 'insert') pins.push(store.insert(`${key}`, group, {} as Prefilled, bytes));
      else if (what === 'acquire') { const p = store.acquire(`${key}`); if (p) pins.push(p); }
      else if (what === 'drop') store.drop(group);
      else pins.shift()?.release();
      const { bytes: held } = store.stats();
      if (held < 0 || held > 100) return false;
    }
    store.drop('a');
    store.drop('b');
    for (const p of pins) p.release();
    return store.stats().bytes === 0;
  }), { seed: 3 });
  t.end();
});

await t.test('deadline, abort and a full queue', async (t) => {
  const ranks = await service(t, await saved(t), { maxCalls: 2, window: 20_000 });
  const before = ranks.stats().rows;
  await t.rejects(ranks.rank(request(1), { timeout: 1 }), { code: 'ERR_DEADLINE' });
  const stop = new AbortController();
  const aborted = ranks.rank(request(1), { signal: stop.signal });
  setImmediate(() => { stop.abort(new Error('gone')); });
  await t.rejects(aborted, /gone/);
  t.equal(ranks.stats().rows, before, 'neither was run');
  t.match(ranks.stats(), { waitingCalls: 0, waitingRows: 0, late: 1, aborted: 1 });
  const all = await Promise.allSettled([1, 2, 3, 4].map((s) => ranks.rank(request(s))));
  t.same(all.map((r) => r.status), ['fulfilled', 'fulfilled', 'rejected', 'rejected']);
  t.match((all[3] as PromiseRejectedResult).reason, { code: 'ERR_OVERLOADED' });
  await ranks.rank(request(5));
  t.equal(ranks.stats().refused, 2);
});

await t.test('a call that would wait for more than half of its time is refused at once', async (t) => {
  const ranker = await Ranker.open(await saved(t), { runtime });
  const score = ranker.score.bind(ranker);
  ranker.score = async (...call) => {
    await new Promise((resolve) => setTimeout(resolve, 100));
    return score(...call);
  };
  const ranks = new RankService(ranker, 'slow', { timeout: 600_000 });
  t.teardown(() => ranks.close());
  await ranks.rank(request(1));
  const first = ranks.rank(request(1));
  while (ranks.stats().waitingCalls === 0) await new Promise((resolve) => setImmediate(resolve));
  await t.rejects(ranks.rank(request(2), { timeout: 150 }), { code: 'ERR_OVERLOADED' }, 'five candidates take at least 100 ms');
  t.equal((await ranks.rank(request(2))).index.length, 5, 'a patient one waits');
  t.equal((await first).index.length, 5);
});

await t.test('a small call passes a large one', async (t) => {
  const ranks = await service(t, await saved(t), { slice: 4, rows: 8 });
  const order: string[] = [];
  await Promise.all([
    ranks.rank(request(1, 12, 400)).then(() => order.push('large')),
    ranks.rank(request(2, 12, 3)).then(() => order.push('small')),
    ranks.rank(request(3, 12, 4)).then(() => order.push('small')),
  ]);
  t.same(order, ['small', 'small', 'large']);
});

await t.test('what is wrong is named', async (t) => {
  const ranks = await service(t, await saved(t), { maxCandidates: 5, maxEvents: 12 });
  const good = request(1);
  await t.rejects(ranks.rank(request(1, 12, 6)), { code: 'ERR_DATA', place: 'candidates' });
  await t.rejects(ranks.rank(request(1, 13, 1)), { code: 'ERR_DATA', place: 'history' });
  await t.rejects(ranks.rank({ ...good, tasks: ['like' as never] }), { code: 'ERR_DATA', place: 'tasks' });
  await t.rejects(ranks.rank({ ...good, topK: 0 }), { code: 'ERR_DATA', place: 'topK' });
  await t.rejects(ranks.rank({ ...good, user: { ...good.user, age: NaN } }), { code: 'ERR_DATA', place: 'request: user.age' });
  await t.rejects(ranks.rank({ ...good, candidates: [{ item: 51, price: 1 }] }), { code: 'ERR_DATA', place: 'request: candidates[0].item' });
  await t.rejects(ranks.rank({ ...good, history: undefined } as never), { code: 'ERR_DATA', place: 'history' });
  const top = await ranks.rank({ ...good, tasks: ['buy'], topK: 2 });
  t.same([top.index.length, Object.keys(top.logits)], [2, ['buy']]);
  t.match(ranks.stats(), { waitingCalls: 0, waitingRows: 0 });
});

await t.test('a model is swapped under load: no call fails, none mixes versions, old caches are gone', async (t) => {
  const [a, b] = [await saved(t, 1), await saved(t, 2)];
  const ranks = await service(t, a, { slice: 3, rows: 6 });
  const r = request(1, 20, 30);
  const first = ranks.model.version;
  const [ofA, ofB] = [await alone(a, r), await alone(b, r)];
  t.notSame(ofA, ofB);
  const inFlight = Array.from({ length: 6 }, () => ranks.rank(r));
  const swap = ranks.load(b);
  while (ranks.model.version === first) { inFlight.push(ranks.rank(r)); await new Promise((resolve) => setImmediate(resolve)); if (inFlight.length > 200) await swap; }
  const { version } = await swap;
  const after = await ranks.rank(r);
  for (const result of [...await Promise.all(inFlight), after]) t.same(unordered(result, 'click'), result.model === version ? ofB['click'] : ofA['click']);
  t.equal(after.model, version);
  t.equal(ranks.stats().cache.entries, 1);

  const broken = mkdtempSync(join(tmpdir(), 'longer-broken-'));
  t.teardown(() => { rmSync(broken, { recursive: true }); });
  const step = readdirSync(a).find((n) => n.startsWith('step-'))!;
  mkdirSync(join(broken, step));
  for (const f of readdirSync(join(a, step))) copyFileSync(join(a, step, f), join(broken, step, f));
  const file = join(broken, step, readdirSync(join(broken, step)).find((f) => f.startsWith('model'))!);
  truncateSync(file, statSync(file).size - 9);
  await t.rejects(ranks.load(join(broken, step)), { code: 'ERR_CHECKPOINT' });
  t.equal(ranks.model.version, version, 'a failed load changes nothing');
  t.equal((await ranks.rank(r)).cache, 'hit');
});

await t.test('a shadow says how far it is off, and nothing else changes', async (t) => {
  const [a, b] = [await saved(t, 1), await saved(t, 2)];
  const ranks = await service(t, a);
  const r = request(1);
  for (const [directory, equal] of [[a, true], [b, false]] as const) {
    await ranks.shadow(directory);
    t.same(unordered(await ranks.rank(r), 'click'), (await alone(a, r))['click']);
    while (ranks.stats().shadow.scores === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    const { meanDifference, maxDifference, scores } = ranks.stats().shadow;
    t.equal(scores, 10);
    t.equal(maxDifference === 0, equal);
    t.ok(meanDifference <= maxDifference);
  }
});

await t.test('histories: append, replace, delete, and no way back in time', async (t) => {
  const directory = await saved(t);
  const ranks = await service(t, directory);
  const store = ranks.histories!;
  const r = request(4, 10, 3);
  const events = r.history as unknown as Record<string, number>[];
  t.equal(await store.append('u', events.slice(0, 6)), 6);
  t.equal(await store.append('u', events.slice(6)), 10);
  const rest = { user: r.user, context: r.context, time: r.time, candidates: r.candidates };
  t.same(unordered(await ranks.rank({ ...rest, userId: 'u' }), 'buy'), (await alone(directory, r))['buy']);
  await t.rejects(store.append('u', [events[0]!]), { code: 'ERR_DATA', place: 'events[0].time' });
  await t.rejects(store.append('u', [{ ...events[9]!, item: 99 }]), { code: 'ERR_DATA', place: 'events[0].item' });
  await t.rejects(store.replace('u', [events[4]!, events[2]!]), { code: 'ERR_DATA' });
  for (const place of ['maxEvents', 'maxUsers']) for (const value of [0, -1, 1.5, NaN]) t.throws(() => new MemoryHistoryStore(richSchema, { [place]: value }), { code: 'ERR_CONFIG', place });
  t.same(await store.read('u'), { events, dropped: 0 }, 'what is refused changes nothing');
  t.equal(await store.replace('u', events.slice(0, 2)), 2);
  t.same([await store.delete('u'), await store.delete('u')], [true, false]);
  t.same(await store.read('u'), { events: [], dropped: 0 });
  const small = new MemoryHistoryStore(richSchema, { maxEvents: 3, maxUsers: 2 });
  for (const user of ['a', 'b', 'a', 'c']) await small.append(user, events.slice(5, 6));
  await small.append('a', events.slice(6));
  t.same(await small.read('a'), { events: events.slice(7), dropped: 3 });
  t.same([(await small.read('b')).events.length, small.users], [0, 2]);
});

await t.test('a grown history: the bits of a prefill, for the work of what is new', async (t) => {
  for (const [name, config] of Object.entries({ appendSafe, banded, 'banded, all queries, flat head': models['banded, all queries, flat head']! })) {
    const directory = await saved(t, 1, config);
    const ranks = await service(t, directory);
    using ranker = await Ranker.open(directory, { runtime });
    const next = random(8);
    const all = request(6, 120, 4);
    const events = all.history as unknown as Record<string, number>[];
    let n = 5;
    for (let step = 0; step < 16; ++step) {
      const historyStart = step % 5 === 4 ? 2 : 0; // another beginning: another cache
      const rest = { ...all, historyStart, context: { hour: step }, history: events.slice(historyStart, n) as never, time: events[n - 1]!['time']! + 1 };
      const result = await ranks.rank(rest);
      const wanted = await scores(ranker, rest);
      for (const task of ['click', 'buy']) t.same(unordered(result, task), wanted[task], `${name}, ${n} events, ${task}`);
      if (historyStart === 0 && step % 5 !== 0) t.equal(result.cache, 'grown', `${name}, ${n} events`);
      n = Math.min(120, n + 1 + Math.floor(next() * 12));
    }
    t.ok(ranks.stats().prefills <= 6);
    // As columns; and a past that was changed is not gone on from.
    const columns = (list: typeof events): never => Object.fromEntries(['item', 'action', 'dwell', 'time'].map((c) => [c, list.map((e) => e[c]!)])) as never;
    const at = { ...all, user: { ...all.user, user_id: 'columns' }, time: all.time };
    for (const [list, cache] of [[events.slice(0, 60), 'miss'], [events.slice(0, 63), 'grown'], [[...events.slice(0, 61), { ...events[61]!, item: (events[61]!['item']! + 1) % 50 }, ...events.slice(62, 66)], 'miss'], [events.slice(0, 70), 'miss']] as const) {
      const r = { ...at, history: columns([...list]) };
      const result = await ranks.rank(r);
      t.same([result.cache, unordered(result, 'click')], [cache, (await scores(ranker, r))['click']], name);
    }
    await ranks.close();
  }
});

await t.test('a store that drops the oldest events says how many, and scores stay those of the whole history', async (t) => {
  const directory = await saved(t, 1, appendSafe);
  const store = new MemoryHistoryStore(richSchema, { maxEvents: 40 });
  const ranks = new RankService(await Ranker.open(directory, { runtime }), 'first', { timeout: 600_000 }, { histories: store });
  t.teardown(() => ranks.close());
  using ranker = await Ranker.open(directory, { runtime });
  const all = request(9, 90, 4);
  const events = all.history as unknown as Record<string, number>[];
  const rest = { user: all.user, context: all.context, time: all.time, candidates: all.candidates };
  for (let n = 0; n < 90; n += 15) {
    await store.append('u', events.slice(n, n + 15));
    const result = await ranks.rank({ ...rest, userId: 'u' });
    t.same(unordered(result, 'click'), (await scores(ranker, { ...all, history: events.slice(0, n + 15) as never }))['click'], `${n + 15} events`);
    t.equal(result.cache, n === 0 ? 'miss' : 'grown');
  }
  t.equal((await store.read('u')).dropped, 50);
});

await t.test('any logits are ordered best first, equal ones as they came', (t) => {
  const logit = fc.oneof(fc.float({ noNaN: true, noDefaultInfinity: true }), fc.constantFrom(0, -0, 1, -1, 3.4028234663852886e38, 1.401298464324817e-45));
  fc.assert(fc.property(fc.array(logit, { maxLength: 40 }), (list) => {
    const logits = Float32Array.from(list);
    const wanted = list.map((_, i) => i).sort((a, b) => logits[b]! - logits[a]! || a - b);
    const { index } = ranked(logits, 1, [['click', 0]]);
    return index.length === wanted.length && wanted.every((place, i) => index[i] === place);
  }), { seed: 4, numRuns: 500 });
  t.end();
});

await t.test('encoded histories: the same object once, another one anew, and bounded', (t) => {
  const histories = new EncodedHistories(richSchema, 25);
  const stored = (seed: number, n: number): StoredHistory => ({ events: request(seed, n).history as unknown as StoredEvent[], dropped: seed });
  const [a, b] = [stored(1, 10), stored(2, 10)];
  const first = histories.of('a', a);
  t.match(first, { events: 10, historyStart: 1 });
  t.equal(histories.of('a', a), first);
  t.not(histories.of('a', { ...a }), first, 'written anew');
  const again = histories.of('a', a);
  histories.of('b', b);
  t.equal(histories.of('a', a), again);
  histories.of('c', stored(3, 10));
  t.equal(histories.of('a', a), again, 'b was used longest ago');
  t.throws(() => histories.of('d', { events: [{ item: 99 }], dropped: 0 }), { code: 'ERR_DATA' });
  t.equal(histories.of('a', a), again);
  t.end();
});

await t.test('a closed service finishes what it has and takes no more', async (t) => {
  const ranks = await service(t, await saved(t), { slice: 2, rows: 4 });
  const inFlight = [ranks.rank(request(1, 12, 20)), ranks.rank(request(2))];
  await ranks.close();
  t.equal((await Promise.all(inFlight)).length, 2);
  await t.rejects(ranks.rank(request(1)), { code: 'ERR_DISPOSED' });
});
