import fc from 'fast-check';
import t from 'tap';
import { PagedRanker } from '../lib/rank/paged_ranker.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { encodeRequest } from '../lib/schema/encode.ts';
import { EncodedHistories } from '../lib/serve/encoded_histories.ts';
import { MemoryHistoryStore, type StoredHistory } from '../lib/serve/history_store.ts';
import { RankService } from '../lib/serve/rank_service.ts';
import type { StoredEvent } from '../lib/serve/stored_events.ts';
import { appendSafe, banded, models, random, richSchema, tiny } from './helpers.ts';
import { alone, request, type Request, runtime, saved, scores, service, unordered } from './serve_helpers.ts';

await t.test('a changed input is never served from the cache of another, and an equal one always is', async (t) => {
  const base = request(7, 10, 2);
  const history = base.history as unknown as Record<string, number>[];
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
  for (const [name, config] of Object.entries({ tiny, anchored: models['anchored']!, banded, base: models['base']!, din: models['din']! })) {
    const directory = await saved(t, 1, config);
    const ranks = await service(t, directory);
    using ranker = await Ranker.open(directory, { runtime });
    t.equal((await ranks.rank(base)).cache, 'miss');
    t.equal((await ranks.rank({ ...structuredClone(base), candidates: request(8).candidates })).cache, 'hit', 'candidates take no part');
    t.equal((await ranks.rank({ ...base, history: base.history!, userId: 'another' })).cache, 'miss', 'users share nothing');
    await fc.assert(fc.asyncProperty(mutations, async (mutate) => {
      const changed = { ...mutate(base), candidates: base.candidates };
      const result = await ranks.rank(changed);
      t.same(unordered(result, 'click'), (await scores(ranker, changed))['click'], `${name}, ${result.cache}`);
      t.equal((await ranks.rank(changed)).cache, 'hit', name);
    }), { numRuns: 60, seed: 5 });
    ranks.swap(await Ranker.open(directory, { runtime }), 'again');
    t.equal((await ranks.rank(base)).cache, 'miss', 'the same files loaded twice are two versions');
  }
});

await t.test('keys and values in int8: found, grown or new, in slices or not, the bits are the same', async (t) => {
  for (const config of [tiny, appendSafe, banded]) {
    const directory = await saved(t, 1, config);
    const ranks = await service(t, directory, { cachePrecision: 'int8', slice: 2, rows: 5 });
    using ranker = await Ranker.open(directory, { runtime });
    using cold = new PagedRanker(ranker, { bytes: 2 ** 20, cachePrecision: 'int8' });
    const whole = request(3, 40, 7);
    for (const r of [{ ...whole, history: (whole.history as readonly object[]).slice(0, 31) as never }, whole, { ...whole, candidates: request(4).candidates }, { ...whole, reuse: false }]) {
      const result = await ranks.rank(r);
      const [held] = await cold.hold([encodeRequest(richSchema, { ...r, reuse: undefined } as never)]);
      const logits = await cold.score([held!]);
      held!.release();
      cold.forget();
      t.same(unordered(result, 'click'), [...logits].filter((_, i) => i % 2 === 0), result.cache);
    }
    t.match(ranks.stats(), { plain: 0, cache: { hits: 2, partialHits: config === tiny ? 0 : 1 } });
  }
  const directory = await saved(t, 1, models['din']!);
  await t.rejects(service(t, directory, { cachePrecision: 'int8' }), { code: 'ERR_CONFIG', place: 'cachePrecision' });
  await t.rejects(service(t, directory, { cachePrecision: 'int4' as never }), { code: 'ERR_CONFIG', place: 'cachePrecision' });
});

await t.test('a pool that is full of what is in use: calls wait for pages, and every one is served', async (t) => {
  for (const config of [tiny, appendSafe, banded]) {
    const directory = await saved(t, 1, config);
    using ranker = await Ranker.open(directory, { runtime });
    await t.rejects(service(t, directory, { cacheBytes: 500 }), { code: 'ERR_CONFIG', message: /full history/ });
    using probe = new PagedRanker(ranker);
    await probe.hold([{ ...request(1, 40), candidates: [] }] as never);
    // Room for two histories and a little, and calls of many slices that hold theirs.
    const ranks = await service(t, directory, { cacheBytes: Math.floor(2.5 * probe.cache.stats().bytes), slice: 2, rows: 6 });
    const all = Array.from({ length: 12 }, (_, i) => request(1 + (i % 7), 40, 3 + 4 * (i % 3)));
    const results = await Promise.all(all.map((r) => ranks.rank(r)));
    for (const [i, r] of all.entries()) t.same(unordered(results[i]!, 'buy'), (await scores(ranker, r))['buy'], `call ${i}`);
    t.match(ranks.stats(), { failed: 0, waitingCalls: 0, waitingRows: 0 });
    t.ok(ranks.stats().cache.evictions > 0);
    // Grown where there is room for one only: from scratch.
    const events = request(5, 80).history as never as object[];
    for (const n of [40, 44, 60, 80]) {
      const r = { ...request(5, 80), history: events.slice(0, n) as never };
      t.same(unordered(await ranks.rank(r), 'click'), (await scores(ranker, r))['click'], `${n} events`);
    }
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
  const date = new Date(events[3]!['time']! * 1000) as never;
  await store.append('u', [{ ...events[3]!, time: date }]);
  await store.append('u', [events[4]!]);
  t.same((await store.read('u')).events.map((e) => e['time']), [events[3]!['time'], events[4]!['time']], 'a date is stored in seconds, and seconds may follow it');
  await store.delete('u');
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
    // As columns; and a past that was changed is gone on from up to the change.
    const columns = (list: typeof events): never => Object.fromEntries(['item', 'action', 'dwell', 'time'].map((c) => [c, list.map((e) => e[c]!)])) as never;
    const at = { ...all, user: { ...all.user, user_id: 'columns' }, time: all.time };
    for (const [list, cache] of [[events.slice(0, 60), 'miss'], [events.slice(0, 63), 'grown'], [[...events.slice(0, 61), { ...events[61]!, item: (events[61]!['item']! + 1) % 50 }, ...events.slice(62, 66)], 'grown'], [[{ ...events[0]!, item: (events[0]!['item']! + 1) % 50 }, ...events.slice(1, 24)], 'miss'], [events.slice(0, 70), 'grown']] as const) {
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

await t.test('encoded histories: one that grew, lost its oldest events or was edited is what it is when encoded anew', async (t) => {
  for (const maxEvents of [7, 1000]) {
    const store = new MemoryHistoryStore(richSchema, { maxEvents });
    const histories = new EncodedHistories(richSchema, 10_000);
    const events = request(3, 60).history as unknown as StoredEvent[];
    for (let n = 0, step = 1; n + step <= 60; n += step, step = 1 + (step % 5)) {
      await store.append('u', events.slice(n, n + step));
      const stored = await store.read('u');
      t.same(histories.of('u', stored), new EncodedHistories(richSchema, 10_000).of('u', stored), `${n + step} events, at most ${maxEvents}`);
    }
    const { events: kept, dropped } = await store.read('u');
    const edited = { events: [...kept.slice(0, 2), { ...kept[2]!, item: 1 }, ...kept.slice(3)], dropped };
    t.same(histories.of('u', edited), new EncodedHistories(richSchema, 10_000).of('u', edited));
    t.throws(() => histories.of('u', { events: [...edited.events, { ...kept[0]! }], dropped }), { code: 'ERR_DATA' }, 'time goes backwards');
    t.same(histories.of('u', edited), new EncodedHistories(richSchema, 10_000).of('u', edited));
  }
});
