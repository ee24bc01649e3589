import t, { type Test } from 'tap';
import type { LongerConfig, ModelConfig } from '../lib/model/config.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { State } from '../lib/native/plan.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { PagedCache } from '../lib/rank/paged_cache.ts';
import { PagedRanker } from '../lib/rank/paged_ranker.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { type CachePrecision, defaultPageBytes, PagedGraphs } from '../lib/model/pages.ts';
import type { EncodedRequest } from '../lib/schema/encode.ts';
import { appendSafe, banded, encodedTo, models, random, requests, richSchema, sameBits, tiny } from './helpers.ts';

const runtime = new Runtime({ threads: 2 });
t.teardown(() => { runtime.dispose(); });

type Event = { item: number; action: number; dwell: number; time: number };
const candidates = [{ item: 3, price: 1 }, { item: 9, price: 2 }, { item: 4, price: 0.5 }];

const forms: Readonly<Record<string, LongerConfig>> = {
  full: appendSafe,
  'full, uid, cls, two self layers': { ...appendSafe, globals: { uid: 'user_id', cls: 1 }, selfLayers: 2 },
  'full, all queries, merge 1': { ...appendSafe, merge: 1, heads: 1, queries: { kind: 'all' } },
  'full, recent and uniform': { ...appendSafe, queries: { kind: 'recent+uniform', recent: 2, uniform: 3 } },
  'full, learnable': { ...appendSafe, queries: { kind: 'learnable', k: 2 } },
  banded,
  'banded, all queries, merge 3, flat head': { ...banded, merge: 3, inner: { blocks: 2, heads: 1 }, queries: { kind: 'all' }, selfLayers: 2, head: { kind: 'flatten', hidden: [6] } },
  'banded, no self layer, gate, swiglu': { ...banded, selfLayers: 0, gate: true, ffn: 'swiglu', norm: 'rms' },
  'banded, merge 5 in 23': { ...banded, maxHistory: 23, merge: 5, heads: 4 },
};

function open(config: ModelConfig, precision: 'fp32' | 'bf16'): { ranker: Ranker; dispose: () => void } {
  const model = new ModelDescription(richSchema, config);
  const state = new State(model.layout.stores());
  model.initialise(state, 4);
  const ranker = new Ranker(model, state, runtime, { precision });
  return { ranker, dispose: () => { ranker.dispose(); state.dispose(); } };
}

/** How caches are held: the model's precision, and that of keys and values in pages. */
interface Form {
  readonly precision: 'fp32' | 'bf16';
  readonly cachePrecision: CachePrecision;
}
const kept: readonly Form[] = [{ precision: 'fp32', cachePrecision: 'model' }, { precision: 'bf16', cachePrecision: 'model' }, { precision: 'fp32', cachePrecision: 'int8' }, { precision: 'bf16', cachePrecision: 'int8' }];
const told = ({ precision, cachePrecision }: Form): string => (cachePrecision === 'int8' ? `${precision}, int8` : precision);

/** Logits that no earlier call had a part in: of a prefill, or in int8 of pages that hold nothing else. */
function coldly(ranker: Ranker, { cachePrecision }: Form): { readonly score: (list: readonly (object & { candidates: unknown })[]) => Promise<Float32Array>; readonly dispose: () => void } {
  const pages = cachePrecision === 'int8' ? new PagedRanker(ranker, { bytes: 1_000_000, cachePrecision }) : undefined;
  return {
    async score(list) {
      if (!pages) return ranker.score(await ranker.prefill(list as never));
      pages.forget();
      const held = await pages.hold(list as never, { owners: list.map((_, i) => `${i}`) });
      const logits = await pages.score(held);
      for (const h of held) h.release();
      return logits;
    },
    dispose: () => { pages?.dispose(); },
  };
}

await t.test('histories that grow by chance: the logits of a cold ranker, hits, partial hits and misses as they must be', async (t) => {
  for (const [name, config] of Object.entries(forms)) for (const form of kept) await grow(t, name, config, form);
});

async function grow(t: Test, name: string, config: LongerConfig, form: Form): Promise<void> {
  const { precision, cachePrecision } = form;
  const { ranker, dispose } = open(config, precision);
  const cold = coldly(ranker, form);
  // Some ten users' pages: entries come and go.
  using pages = new PagedRanker(ranker, { bytes: 40_000, cachePrecision });
  const next = random(name.length + (precision === 'bf16' ? 100 : 0));
  const int = (n: number): number => Math.floor(next() * n);
  let time = 0;
  const events = (n: number): Event[] => Array.from({ length: n }, () => ({ item: int(50), action: int(3), dwell: next() * 200, time: (time += int(500)) }));
  const histories = [events(0), events(1), events(9), events(30)];
  const starts = [0, 0, 7, 0];
  const hours = [1, 2, 3, 4];
  const request = (i: number) => ({ user: { user_id: `u${i}`, age: 30 + i, likes: [i, 7] }, context: { hour: hours[i]! }, time, historyStart: starts[i]!, history: histories[i]!, candidates });
  let partial = 0;
  for (let step = 0; step < 25; ++step) {
    const list = [0, 1, 2, 3].filter(() => int(3) > 0);
    if (list.length === 0) continue;
    time += 60;
    for (const i of list) {
      const kind = int(8);
      if (kind < 5) histories[i]!.push(...events([0, 1, 1, 2, 5][kind]!));
      else if (kind === 5) hours[i] = int(24);
      else if (kind === 6 && histories[i]!.length > 2) histories[i] = histories[i]!.map((e, at) => (at === histories[i]!.length - 2 ? { ...e, item: int(50) } : e));
      else if (kind === 7 && int(4) === 0) histories[i]!.push(...events(40));
    }
    const requests = list.map(request);
    const held = await pages.hold(requests);
    const want = await cold.score(requests);
    t.ok(sameBits(await pages.score(held), want), `${name}, ${told(form)}, step ${step}: ${held.map((h) => h.outcome).join()}`);
    const again = await pages.hold(requests);
    t.ok(again.every((h) => h.outcome === 'hit' && h.reuse.events.computed === 0), `${name}, step ${step}: a second call hits`);
    t.ok(sameBits(await pages.score(again), want), `${name}, ${told(form)}, step ${step}: and scores the same`);
    partial += held.filter((h) => h.outcome === 'partial').length;
    for (const h of [...held, ...again]) h.release();
    const { pagesUsed, budget, bytes } = pages.cache.stats();
    t.ok(bytes <= budget && pagesUsed >= 0);
  }
  t.ok(partial > 0, `${name}: ${partial} partial hits`);
  pages.forget();
  t.equal(pages.cache.stats().pagesUsed, 0, `${name}: every page comes back`);
  cold.dispose();
  dispose();
}

await t.test('in int8: near the exact logits, in a batch as alone, and refused where there are no keys', async (t) => {
  for (const [name, config] of Object.entries(models)) for (const precision of ['fp32', 'bf16'] as const) {
    const { ranker, dispose } = open(config, precision);
    if (config.kind !== 'longer') {
      t.throws(() => new PagedRanker(ranker, { bytes: 1_000_000, cachePrecision: 'int8' }), { code: 'ERR_CONFIG', place: 'cachePrecision', message: /keeps no keys and values/ });
      dispose();
      continue;
    }
    using pages = new PagedRanker(ranker, { bytes: 1_000_000, cachePrecision: 'int8' });
    const list = requests([0, 1, 7, 24, 40], [2, 0, 5]);
    const got = await pages.score(await pages.hold(list));
    const exact = await ranker.score(await ranker.prefill(list));
    const largest = (a: Float32Array): number => a.reduce((m, x) => Math.max(m, Math.abs(x)), 0);
    const worst = largest(got.map((x, i) => x - exact[i]!)) / largest(exact);
    t.ok(worst > 0 && worst < (precision === 'fp32' ? 0.005 : 0.03), `${name}, ${precision}: ${worst}`);
    const alone: number[] = [];
    for (const r of list) alone.push(...(await pages.score(await pages.hold([r]))));
    t.same(alone, [...got], `${name}: one at a time`);
    dispose();
  }
  const { ranker, dispose } = open({ ...tiny, width: 6, merge: 1, inner: { blocks: 0, heads: 1 } }, 'fp32');
  t.throws(() => new PagedRanker(ranker, { cachePrecision: 'int8' }), { code: 'ERR_CONFIG', message: /whole words of four/ });
  t.throws(() => new PagedRanker(ranker, { cachePrecision: 'int4' as never }), { code: 'ERR_CONFIG', message: /'model' or 'int8'/ });
  dispose();
});

await t.test('every model: scores from pages are those from a prefill, in a batch and alone', async (t) => {
  for (const [name, config] of Object.entries(models)) for (const precision of ['fp32', 'bf16'] as const) {
    const { ranker, dispose } = open(config, precision);
    using pages = new PagedRanker(ranker, { bytes: 1_000_000 });
    const list = requests([0, 1, 7, 24, 40], [2, 0, 5]);
    const held = await pages.hold(list);
    const want = await ranker.score(await ranker.prefill(list));
    t.ok(sameBits(await pages.score(held), want), `${name}, ${precision}`);
    const alone: number[] = [];
    for (const r of list) alone.push(...(await pages.score(await pages.hold([r]))));
    t.same(alone, [...want], `${name}: one at a time`);
    t.match(pages.cache.stats(), { hits: list.length, misses: list.length });
    dispose();
  }
});

/** Each part of the history side, with one bit or one value of it changed. */
function* mutations(r: EncodedRequest): Generator<[string, EncodedRequest]> {
  for (const side of ['user', 'context', 'event'] as const) {
    for (const [name, column] of r[side].ids)
      for (let i = 0; i < column.length; ++i) {
        const changed = column.slice();
        changed[i] = column[i] === 0 ? 1 : column[i]! - 1;
        yield [`${side}.${name}[${i}]`, { ...r, [side]: { ...r[side], ids: new Map([...r[side].ids, [name, changed]]) } }];
      }
    for (let i = 0; i < r[side].numeric.length; ++i) {
      const changed = r[side].numeric.slice();
      new Int32Array(changed.buffer)[i]! ^= 1 << 22;
      yield [`${side}.numeric[${i}]`, { ...r, [side]: { ...r[side], numeric: changed } }];
    }
  }
  for (let i = 0; i < r.events; ++i) {
    const [low, high] = [i > 0 ? r.eventTime[i - 1]! : 0, r.eventTime[i + 1] ?? r.time];
    const changed = r.eventTime.slice();
    changed[i] = changed[i] === low ? high : low;
    if (low !== high) yield [`time of event ${i}`, { ...r, eventTime: changed }];
  }
  yield ['time', { ...r, time: r.time + 5000 }];
  yield ['historyStart', { ...r, historyStart: r.historyStart + 1 }];
  yield ['the first event is gone', encodedFrom(r, 1)];
  yield ['the last event is gone', { ...encodedTo(r, r.events - 1) }];
}

function encodedFrom(r: EncodedRequest, from: number): EncodedRequest {
  const ids = new Map([...r.event.ids].map(([n, c]) => [n, c.slice(from)]));
  return { ...r, event: { ...r.event, ids }, events: r.events - from, eventTime: r.eventTime.slice(from), historyStart: r.historyStart + from };
}

await t.test('nothing is stale: whatever one changes of an input, the score is that of a cold ranker', async (t) => {
  for (const [name, config] of Object.entries({ 'full': appendSafe, banded, 'newest': tiny, 'anchored': { ...tiny, visibility: 'anchored' as const }, 'uid': { ...appendSafe, globals: { uid: 'user_id', cls: 1 } } })) {
    const { ranker, dispose } = open(config, 'fp32');
    using pages = new PagedRanker(ranker, { bytes: 4_000_000 });
    const [r] = requests([19], [3]) as [EncodedRequest];
    const [first] = await pages.hold([r]);
    const original = await pages.score([first!]);
    let differ = 0;
    for (const [what, changed] of mutations(r)) {
      const [held] = await pages.hold([changed]);
      const want = await ranker.score(await ranker.prefill([changed]));
      const got = await pages.score([held!]);
      t.ok(sameBits(got, want), `${name}, ${what}: ${held!.outcome}`);
      if (!sameBits(got, original)) ++differ;
      held!.release();
    }
    t.ok(differ > 20, `${name}: ${differ} changes changed the logits`);
    t.ok(sameBits(await pages.score([first!]), original), `${name}: the first cache is as it was`);
    dispose();
  }
});

await t.test('entries belong to a model and an owner', async (t) => {
  const [a, b] = [open(banded, 'fp32'), open(banded, 'fp32')];
  const pageBytes = defaultPageBytes(a.ranker.model, 'fp32');
  using cache = new PagedCache({ bytes: 400 * pageBytes, pageBytes });
  using one = new PagedRanker(a.ranker, { cache });
  const two = new PagedRanker(b.ranker, { cache });
  const list = requests([9], [1]);
  const outcome = async (p: PagedRanker, owners?: string[]): Promise<string> => {
    const [held] = await p.hold(list, owners ? { owners } : {});
    held!.release();
    return held!.outcome;
  };
  t.equal(await outcome(one), 'miss');
  t.equal(await outcome(two), 'miss', 'another model');
  t.equal(await outcome(one), 'hit');
  t.equal(await outcome(one, ['somebody']), 'miss', 'another owner with the same content');
  t.equal(await outcome(one, ['somebody']), 'hit');
  two.dispose();
  t.equal(await outcome(one), 'hit', 'the entries of another model went alone');
  one.forget();
  t.equal(await outcome(one), 'miss');
  t.match(cache.stats(), { hits: 3, misses: 4, entries: 1 });
  a.dispose();
  b.dispose();
});

await t.test('the budget holds: what is used longest ago goes, nothing that is held does, and a full pool says so', async (t) => {
  const { ranker, dispose } = open(banded, 'fp32');
  const pageBytes = defaultPageBytes(ranker.model, 'fp32');
  let clock = 0;
  using probe = new PagedRanker(ranker);
  const [r] = requests([24], [1]) as [EncodedRequest];
  await probe.hold([r]);
  const each = probe.cache.stats().pagesUsed;
  using cache = new PagedCache({ bytes: (3 * each + 1) * pageBytes, pageBytes, ttl: 60, now: () => clock });
  using pages = new PagedRanker(ranker, { cache });
  const take = async (owner: string) => (await pages.hold([r], { owners: [owner] }))[0]!;
  const a = await take('a');
  (await take('b')).release();
  (await take('c')).release();
  t.match(cache.stats(), { entries: 3, evictions: 0, pagesUsed: 3 * each });
  (await take('b')).release();
  (await take('d')).release();
  t.match(cache.stats(), { entries: 3, evictions: 1, hits: 1 }, 'c left: a is held, b was used later');
  const [b, d] = [await take('b'), await take('d')];
  t.match([b.outcome, d.outcome], ['hit', 'hit']);
  const before = cache.stats();
  await t.rejects(pages.hold([r, r], { owners: ['a', 'e'] }), { code: 'ERR_MEMORY', message: /1 of .* are free, the others held.*release caches sooner/ });
  t.same({ ...cache.stats(), hits: 0 }, { ...before, hits: 0 }, 'and nothing changed');
  const want = await ranker.score(await ranker.prefill([r]));
  t.ok(sameBits(await pages.score([a]), want), 'what is held still scores');
  const twin = new PagedRanker(ranker, { cache });
  await t.rejects(twin.score([a]), { code: 'ERR_DATA', place: 'request 0', remedy: /whose hold gave it/ });
  await t.rejects(pages.score([await ranker.prefill([r]) as never], [r]), { code: 'ERR_DATA' });
  twin.dispose();
  for (const h of [a, b, d]) h.release();
  a.release();
  await t.rejects(pages.score([a]), { code: 'ERR_DISPOSED', remedy: /again/ });
  await t.rejects(pages.hold([r, r], { owners: ['a'] }), { code: 'ERR_SHAPE' });
  (await take('e')).release();
  clock = 59_999;
  t.equal((await take('e')).outcome, 'hit');
  clock = 60_000;
  t.equal((await take('e')).outcome, 'miss', 'too old');
  t.equal(cache.stats().expired, 1);
  await t.rejects(pages.hold([r], { owners: ['f'], signal: AbortSignal.abort() }), { name: 'AbortError' });
  const used = cache.stats().pagesUsed;
  await t.rejects(pages.hold(Array.from({ length: 5 }, () => r), { owners: ['1', '2', '3', '4', '5'] }), { code: 'ERR_MEMORY', message: /larger budget, or prefill fewer/ });
  t.ok(cache.stats().pagesUsed <= used, 'no page is lost');
  cache.dispose();
  await t.rejects(pages.hold([r]), { code: 'ERR_DISPOSED' });
  dispose();
});

await t.test('what is computed already is waited for, not computed twice', async (t) => {
  const { ranker, dispose } = open(banded, 'fp32');
  using pages = new PagedRanker(ranker, { bytes: 400_000 });
  const [a, b] = requests([19, 24], [2]) as [EncodedRequest, EncodedRequest];
  const stop = new AbortController();
  const given = await Promise.all([pages.hold([a, b, a]), pages.hold([b, a]), pages.hold([a], { owners: ['another'] })]);
  t.same(given.map((list) => list.map((h) => h.outcome)), [['miss', 'miss', 'hit'], ['hit', 'hit'], ['miss']]);
  t.match(pages.cache.stats(), { misses: 3, hits: 3, entries: 3 });
  const want = await ranker.score(await ranker.prefill([a, b, a]));
  t.ok(sameBits(await pages.score(given[0]!), want));
  for (const h of given.flat()) h.release();
  pages.forget();
  t.equal(pages.cache.stats().pagesUsed, 0);
  // Who computes gives up: who waited computes itself.
  const first = pages.hold([a], { signal: stop.signal });
  const second = pages.hold([a]);
  const third = pages.hold([a], { signal: AbortSignal.timeout(0) });
  stop.abort();
  await t.rejects(first, { name: 'AbortError' });
  await third.then(([h]) => { h!.release(); }, (error: Error) => t.equal(error.name, 'TimeoutError'));
  const [held] = await second;
  t.ok(sameBits(await pages.score([held!]), want.subarray(0, 4)));
  held!.release();
  dispose();
});

await t.test('what was outgrown leaves first, and what entries keep beside pages is bounded', async (t) => {
  const { ranker, dispose } = open(banded, 'fp32');
  const take = async (pages: PagedRanker, r: EncodedRequest, owner: string): Promise<string> => {
    const [held] = await pages.hold([r], { owners: [owner] });
    held!.release();
    return held!.outcome;
  };
  const [r] = requests([40], [1]) as [EncodedRequest];
  const older = encodedTo(r, 33);
  {
    using cache = PagedRanker.cacheFor(ranker, { bytes: 6000 });
    using pages = new PagedRanker(ranker, { cache });
    t.same([await take(pages, older, 'a'), await take(pages, older, 'b'), await take(pages, r, 'a')], ['miss', 'miss', 'partial']);
    const { pagesUsed, pages: all, entries } = cache.stats();
    t.equal(entries, 3);
    cache.reserve(all - pagesUsed + 1);
    t.match(cache.stats(), { entries: 2, evictions: 1 });
    t.equal(await take(pages, older, 'b'), 'hit', 'b was used longer ago than what a grew out of');
    t.equal(await take(pages, r, 'a'), 'hit');
  }
  const base = open(models['base']!, 'fp32');
  using cache = PagedRanker.cacheFor(base.ranker, { bytes: 10_000 });
  using pages = new PagedRanker(base.ranker, { cache });
  for (let u = 0; u < 30; ++u) t.equal(await take(pages, r, `u${u}`), 'miss');
  const { bytesBeside, entries, pages: all } = cache.stats();
  t.equal(all, 1, 'no pages for what keeps one row a request');
  t.ok(bytesBeside <= 10_000 && entries > 2 && entries < 10, `${entries} entries, ${bytesBeside} bytes`);
  t.equal(await take(pages, r, 'u29'), 'hit');
  base.dispose();
  dispose();
});

await t.test('an entry keeps what the model reads of a history, not the arrays of the whole', async (t) => {
  const { ranker, dispose } = open({ ...tiny, maxHistory: 6 }, 'fp32');
  using pages = new PagedRanker(ranker);
  const [long] = requests([500], [3], 1) as [EncodedRequest];
  const [first] = await pages.hold([long]);
  const { content } = pages.hottest()[0]!;
  const arrays = [content.event, content.user, content.context].flatMap((side) => [...side.ids.values(), ...side.offsets.values(), side.numeric]);
  t.equal(content.end - content.start, 7, 'one more than it reads, for its gap');
  for (const array of [...arrays, content.eventTime]) t.equal(array.buffer.byteLength, array.byteLength);
  t.equal((await pages.hold([long]))[0]!.outcome, 'hit');
  t.equal((await pages.hold([{ ...long, eventTime: long.eventTime.map((x, i) => (i === 496 ? x + 1e-9 * x : x)) }]))[0]!.outcome, 'miss');
  t.ok(pages.cache.stats().bytesBeside < 8192, `${pages.cache.stats().bytesBeside} bytes for two of 500 events`);
  first!.release();
  dispose();
});

await t.test('what pages cannot hold is refused', (t) => {
  const { ranker, dispose } = open(banded, 'fp32');
  using cache = PagedRanker.cacheFor(ranker, { bytes: 100_000 });
  for (const place of ['bytes', 'ttl']) t.throws(() => new PagedRanker(ranker, { cache, [place]: 1 }), { code: 'ERR_CONFIG', place, message: /shared cache has its own/ });
  t.throws(() => new PagedRanker(ranker, { bytes: 500 }), { code: 'ERR_CONFIG', place: 'bytes', message: /full history/ });
  t.throws(() => new PagedCache({ bytes: 1000, pageBytes: 100, besideBytes: -1 }), { code: 'ERR_CONFIG', place: 'besideBytes' });
  dispose();
  const longer = new ModelDescription(richSchema, tiny);
  t.throws(() => new PagedGraphs(longer, 'fp32', 36), { code: 'ERR_CONFIG', place: 'pageBytes' });
  const mixed = new PagedGraphs(longer, { mode: 'bf16', full: ['candidate_layer1'] }, 4096);
  t.throws(() => mixed.score(), { code: 'ERR_CONFIG', message: /the type of the attention/ });
  const whole = new PagedGraphs(longer, { mode: 'bf16', full: ['layer1', 'candidate_layer1'] }, 4096);
  t.ok(whole.score() && whole.prefill());
  t.end();
});
