import fastify from 'fastify';
import t from 'tap';
import { batches, countSteps, encodeCandidates, encodeRequest, fit, historyForm, id, ids, loadCheckpoint, LongerError, MetricSet, ModelDescription, numeric, packBatch, PagedRanker, Ranker, Runtime, sigmoid, trainDefaults, Trainer } from '../lib/index.ts';
import { Dataset } from '../lib/data/reader.ts';
import { type CandidateOf, type CandidatesOf, defineSchema, type EventOf, type HistoryOf, type RequestOf, type Schema } from '../lib/schema/schema.ts';
import { hashedRow } from '../lib/schema/hash.ts';
import { MemoryHistoryStore, RankClient, rankPlugin, RankService } from '../lib/serve/index.ts';
import { exactJson } from '../lib/serve/json.ts';
import { passingStores } from '../lib/train/step.ts';
import { batchOf, freePort, requests, richSchema, sameBits, tiny } from './helpers.ts';

/** What programs in plain JavaScript, or in a hurry, do to the programmatic API. */

const runtime = new Runtime({ threads: 2 });
t.teardown(() => { runtime.dispose(); });

const schema = defineSchema({
  tables: { item: { size: 1000, width: 4, hash: true } },
  user: { user_id: id(100, 4, { hash: true }), age: numeric({ optional: true }), c1: numeric({ optional: true }) },
  event: { item: id('item'), tags: ids(9, 2) },
  candidate: { item: id('item'), tags: ids(9, 2), price: numeric({ optional: true }), brand: id(9, 2, { optional: true }) },
  labels: { click: {}, buy: {} },
  time: true,
});
type Spec = typeof schema.spec;
const good: RequestOf<Spec> = { user: { user_id: 1 }, time: 100, history: [{ item: 1, tags: [1], time: 50 }], candidates: [{ item: 2, tags: [] }] };

t.test('types: what is optional may be left out, what is not may not, and columns are typed arrays of any width', (t) => {
  const row: CandidateOf<Spec> = { item: 1n, tags: [], price: undefined, brand: null };
  const columns: CandidatesOf<Spec> = { item: BigUint64Array.of(1n), tags: [Int32Array.of(1)], price: Float32Array.of(1) };
  const some: CandidatesOf<Spec> = { item: Uint32Array.of(1), tags: [[1]], brand: [null] };
  const history: HistoryOf<Spec>['history'] = { item: ['a'], tags: [[1]], time: Float64Array.of(1) };
  const labels: RequestOf<Spec>['labels'] = { click: [true, 0, null] };
  // @ts-expect-error the item is not optional
  const nothing: EventOf<Spec> = { item: null, tags: [], time: 1 };
  // @ts-expect-error nor may it be left out
  const less: CandidateOf<Spec> = { tags: [] };
  // @ts-expect-error there is no such task
  const other: RequestOf<Spec>['labels'] = { clicks: [1] };
  void [nothing, less, other];
  for (const candidates of [[row], columns, some]) t.equal(encodeCandidates(schema, candidates).candidates, 1);
  const untyped = (ranker: Ranker): unknown => ranker.pack([{ user: { any: 1 }, time: 1, history: [{ item: 1, time: 1 }] }]);
  t.type(untyped, 'function');
  t.equal(encodeRequest(schema, { ...good, history, candidates: [row, row, row], labels, userKey: 7 }).userKey, '7');
  t.end();
});

t.test('an id is one id, as number, bigint, and text', (t) => {
  for (const [same, ...others] of [[7, 7n, '7'], [0, 0n, '0'], [-3, -3n, '-3'], [2n ** 53n + 1n, '9007199254740993'], [2n ** 64n - 1n, '18446744073709551615'], [-(2n ** 63n), '-9223372036854775808']])
    for (const other of others) t.equal(hashedRow(other!, 2 ** 31 - 1), hashedRow(same!, 2 ** 31 - 1), String(same));
  const apart = ['07', '-0', '+7', '7.0', ' 7', '18446744073709551616', '7n'];
  t.equal(new Set([...apart, '7', '0', '-1'].map((x) => hashedRow(x, 2 ** 31 - 1))).size, apart.length + 3, 'other texts are others');
  t.equal(exactJson({ item: 2n ** 60n, list: BigInt64Array.of(1n, 2n ** 60n) }), '{"item":"1152921504606846976","list":[1,"1152921504606846976"]}');
  for (const far of [2n ** 64n, -(2n ** 63n) - 1n]) t.throws(() => encodeRequest(schema, { ...good, user: { user_id: far } }), { code: 'ERR_DATA', place: 'request: user.user_id', message: /64 bits/ });
  t.end();
});

t.test('what may be left out is missed where it is misspelt, and what looks like seconds are seconds', (t) => {
  const detached = new Int32Array(2);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  const wrong: readonly (readonly [object, string, RegExp])[] = [
    [{ user: { user_id: 1, agee: 3 } }, 'user.agee', /did you mean 'age'/],
    [{ candidates: [{ item: 1, tags: [], prcie: 3 }] }, 'candidates[0].prcie', /did you mean 'price'/],
    [{ candidates: [{ item: 1, tag: [3] }] }, 'candidates[0].tag', /did you mean 'tags'/],
    [{ candidates: { item: [1], tags: [[]], prices: [3] } }, 'candidates.prices', /did you mean 'price'/],
    [{ histroyStart: 3 }, 'histroyStart', /did you mean 'historyStart'/],
    [{ lables: {} }, 'lables', /did you mean 'labels'/],
    [{ labels: { purchase: [1] } }, 'labels.purchase', /Known are click, buy/],
    [{ user: new Map([['user_id', 1]]) }, 'user', /expected an object, got a Map/],
    [{ candidates: [new Map([['item', 1]])] }, 'candidates[0]', /got a Map/],
    [{ userKey: {} }, 'userKey', /expected a text or a number/],
    [{ time: 1_700_000_000_000 }, 'time', /past the year 5000. Divide milliseconds by 1000/],
    [{ history: { item: detached, tags: [], time: detached } }, 'history.item', /transferred/],
  ];
  for (const [over, place, message] of wrong) t.throws(() => encodeRequest(schema, { ...good, ...over }), { code: 'ERR_DATA', place: `request: ${place}`, message });
  for (const over of [{ labels: undefined }, { labels: null }, { user: { user_id: 1, c2: 5 } }, { candidates: [{ item: 1, tags: [], prize: 3, price: 1 }] }, { labels: { click: [1], other: [1] } }])
    t.doesNotThrow(() => encodeRequest(schema, { ...good, ...over } as never), JSON.stringify(over));
  for (const not of [schema.spec, schema.toJSON(), undefined]) t.throws(() => encodeRequest(not as never, good), { code: 'ERR_SCHEMA', message: /schemaFromJSON/ });
  t.end();
});

t.test('settings and options that are not known are errors, with what was meant', async (t) => {
  const wrong: readonly (readonly [() => unknown, RegExp])[] = [
    [() => new ModelDescription(richSchema, { ...tiny, visibilty: 'anchored' } as never), /unknown key 'visibilty'; did you mean 'visibility'/],
    [() => new ModelDescription(richSchema, { ...tiny, norm: 'rmsnorm' } as never), /model.norm: expected "layer" or "rms"/],
    [() => new ModelDescription(richSchema, { ...tiny, queries: { kind: 'recnt', k: 3 } } as never), /did you mean "recent"/],
    [() => new ModelDescription(richSchema, undefined as never), /model: expected an object/],
    [() => new ModelDescription(richSchema, { ...tiny, alignment: 'oldest', merge: 30, heads: 1 }), /maxHistory: .* 24 events hold none of 30/],
    [() => new ModelDescription(richSchema, { ...tiny, maxHistory: 0, head: { kind: 'flatten', hidden: [3] } }), /model.head.kind/],
    [() => new Runtime({ thread: 2 } as never), /Did you mean 'threads'/],
    [() => new Runtime({ hereBelow: '5' } as never), /hereBelow/],
    [() => new Runtime(null as never), /expected an object of options/],
    [() => new MetricSet({ ks: [0.5] }), /whole number/],
    [() => new MetricSet({ replicate: 3 } as never), /Did you mean 'replicates'/],
    [() => packBatch(richSchema, requests([3], [1]), 24 as never), /form.maxHistory/],
    [() => new Dataset('a.jsonl', richSchema, { skipbad: true } as never), /Did you mean 'skipBad'/],
    [() => Ranker.open('none', { runtme: runtime } as never), /Did you mean 'runtime'/],
    [() => batches(richSchema, [], { maxHistory: 3 } as never).next(), /maxEvents/],
  ];
  for (const [call, message] of wrong) await t.rejects(async () => { await call(); }, { code: 'ERR_CONFIG', message }, String(call));
});

t.test('what is no list, batch, cache or path says what it should be', async (t) => {
  const model = new ModelDescription(richSchema, tiny);
  using trainer = new Trainer(model, trainDefaults, runtime);
  using ranker = new Ranker(model, trainer.state, runtime);
  using paged = new PagedRanker(ranker, { bytes: 2 ** 20 });
  const [request] = requests([3], [2]);
  const packed = (maxHistory: number) => packBatch(richSchema, [request!], { ...historyForm(tiny), maxHistory });
  const wrong: readonly (readonly [() => unknown, string, RegExp])[] = [
    [() => ranker.prefill(request as never), 'ERR_DATA', /requests: expected a list.*\[request\]/],
    [() => ranker.prefill(undefined as never), 'ERR_DATA', /expected a list/],
    [() => ranker.explain(request as never, 1), 'ERR_DATA', /expected a list/],
    [() => paged.hold(request as never), 'ERR_DATA', /expected a list/],
    [() => ranker.score([request] as never), 'ERR_DATA', /cache: expected what prefill or append gives/],
    [() => ranker.append(undefined as never, []), 'ERR_DATA', /cache: expected/],
    [() => trainer.train(request as never), 'ERR_DATA', /expected a batch. packBatch/],
    [() => trainer.train([request, request] as never), 'ERR_DATA', /expected a batch/],
    [() => trainer.predict(undefined as never), 'ERR_DATA', /expected a batch/],
    [() => trainer.predict(packed(50)), 'ERR_DATA', /packed with maxHistory 50, the model reads maxHistory 24.*historyForm/],
    [() => packBatch(richSchema, [{ user: {} }] as never, historyForm(tiny)), 'ERR_DATA', /request 0: expected what encodeRequest gives/],
    [() => loadCheckpoint(undefined as never), 'ERR_CHECKPOINT', /expected a path/],
    [() => new Dataset(undefined as never, richSchema), 'ERR_DATA', /expected a path/],
  ];
  for (const [call, code, message] of wrong) await t.rejects(async () => { await call(); }, { code, message }, String(call));
  t.match(sigmoid(0), 0.5);
});

t.test('steps that are asked for together are done one after another', async (t) => {
  for (const accumulate of [1, 2]) {
    const make = (): Trainer => new Trainer(new ModelDescription(richSchema, tiny), { ...trainDefaults, accumulate, schedule: { ...trainDefaults.schedule, warmup: 2 } }, runtime);
    const all = [1, 2, 3].map((seed) => Array.from({ length: accumulate }, (_, i) => batchOf(requests([9, 4], [3], seed + 10 * i), 24)));
    using together = make();
    using inTurn = make();
    const reports = await Promise.all(all.map((group) => together.train(group)));
    t.same(reports.map((r) => r.step), [1, 2, 3]);
    for (const [i, group] of all.entries()) t.equal((await inTurn.train(group)).loss, reports[i]!.loss);
    const [a, b] = [together, inTurn].map((trainer) => trainer.model.parameters(trainer.state));
    for (const [name, { data }] of a!) t.ok(sameBits(data, b!.get(name)!.data), name);
    const directory = t.testdir();
    void together.train(all[0]!);
    await together.save(directory);
    t.equal((await loadCheckpoint(directory)).step, 4, 'a checkpoint is behind the steps that were asked for');
  }
});

t.test('a step that is aborted changes nothing, or is done', async (t) => {
  const wide = defineSchema({ tables: { item: { size: 10_000, width: 32 } }, event: { item: id('item') }, candidate: { item: id('item') }, labels: { click: {} }, time: false });
  using trainer = new Trainer(new ModelDescription(wide, { ...tiny, width: 32, merge: 4, heads: 2, head: { kind: 'pooled', hidden: [1024, 1024] } }), { ...trainDefaults, sparse: { kind: 'adam', learningRate: 0.1, eps: 1e-8, beta1: 0.9, beta2: 0.999 } }, runtime);
  const request = encodeRequest(wide, { history: Array.from({ length: 24 }, (_, i) => ({ item: i * 400 })), candidates: [{ item: 7 }], labels: { click: [1] } });
  const batch = packBatch(wide, Array.from({ length: 8 }, () => request), historyForm(trainer.model.config));
  const values = (): Uint8Array[] => [...trainer.state.stores.values()].filter(({ name }) => !passingStores.includes(name)).map(({ name, dtype, size }) => new Uint8Array(trainer.state.read(name, 0, new (dtype === 'i32' ? Int32Array : Float32Array)(size)).buffer));
  await trainer.train(batch);
  const { elapsed } = await trainer.train(batch);
  let [done, left] = [0, 0];
  for (let i = 0; i <= 24; ++i) {
    const before = values();
    const step = trainer.step;
    const stop = new AbortController();
    const until = performance.now() + (i / 24) * 1.2 * (elapsed / 1000);
    const trained = trainer.train(batch, stop.signal).then(() => true, (error: unknown) => { t.equal(error, stop.signal.reason); return false; });
    while (performance.now() < until) await new Promise((resolve) => setImmediate(resolve));
    stop.abort();
    const finished = await trained;
    if (finished) done++;
    else left++;
    t.equal(trainer.step, step + Number(finished));
    const same = values().map((x, k) => Buffer.compare(x, before[k]!) === 0);
    t.ok(same.every((x) => x === !finished), `${finished ? 'done' : 'left out'}: all of the state ${finished ? 'moved on' : 'is as it was'}, ${same.join()}`);
  }
  t.comment(`${done} done, ${left} left out`);
});

t.test('fit goes on where it was interrupted', async (t) => {
  const data = requests([3, 9, 1, 20, 4, 6, 2, 8], [2, 3], 4);
  const options = { ...trainDefaults, epochs: 2, shuffleWindow: 4, batch: { ...trainDefaults.batch, maxRequests: 2 } };
  const make = (): Trainer => new Trainer(new ModelDescription(richSchema, tiny), options, runtime);
  using whole = make();
  whole.totalSteps = await countSteps(whole, data);
  t.equal(whole.totalSteps, 8);
  await fit(whole, data);
  t.equal(whole.step, 8);
  const directory = t.testdir();
  {
    using first = make();
    first.totalSteps = whole.totalSteps;
    const stop = new AbortController();
    await t.rejects(fit(first, data, undefined, {
      signal: stop.signal,
      onStep: async ({ step }, position) => { if (step === 5) { await first.save(directory, { ...position }); stop.abort(new LongerError('ERR_ABORTED', 'enough')); } },
    }), { code: 'ERR_ABORTED' });
  }
  using second = make();
  const checkpoint = await loadCheckpoint(directory);
  second.restore(checkpoint);
  await fit(second, data, { epoch: Number(checkpoint.progress['epoch']), batch: Number(checkpoint.progress['batch']) });
  const [a, b] = [whole, second].map((trainer) => trainer.model.parameters(trainer.state));
  for (const [name, { data: values }] of a!) t.ok(sameBits(values, b!.get(name)!.data), name);
});

t.test('pages read the dense parameters that their ranker reads', async (t) => {
  const model = new ModelDescription(richSchema, tiny);
  using trainer = new Trainer(model, { ...trainDefaults, ema: 0.99 }, runtime);
  const data = requests([9, 3], [2], 8);
  for (let i = 0; i < 5; ++i) await trainer.train(batchOf(data, 24));
  using ranker = new Ranker(model, trainer.state, runtime, { denseStore: trainer.denseStore });
  using paged = new PagedRanker(ranker, { bytes: 2 ** 20 });
  t.ok(sameBits(await paged.score(await paged.hold(data)), await ranker.scoreOnce(data)));
  t.ok((await ranker.verifyParity(data)).equal);
});

t.test('a service takes what it knows, and a store keeps what it was given', async (t) => {
  using trainer = new Trainer(new ModelDescription(schema, tiny), trainDefaults, runtime);
  const directory = t.testdir();
  await trainer.save(directory);
  const open = (parts: object, options: object = {}) => RankService.open(directory, { cacheBytes: 2 ** 20, ...options }, parts as never);
  await t.rejects(open({ thread: 1 }), { code: 'ERR_CONFIG', message: /Did you mean 'threads'/ });
  await t.rejects(open({ histories: new MemoryHistoryStore(schema) }), { code: 'ERR_CONFIG', message: /\(schema\) => new MemoryHistoryStore\(schema\)/ });
  t.throws(() => new MemoryHistoryStore(schema, { maxEvent: 3 } as never), { code: 'ERR_CONFIG', message: /Did you mean 'maxEvents'/ });
  t.throws(() => new MemoryHistoryStore(undefined as never), { code: 'ERR_SCHEMA' });
  await using service = await open({ histories: (s: Schema) => new MemoryHistoryStore(s), threads: 1 });
  const { history, ...rest } = good;
  const wrong: readonly (readonly [unknown, object, RegExp])[] = [
    [undefined, {}, /request: expected a request/],
    [{ ...good, topk: 1 }, {}, /topk: unknown key. Did you mean 'topK'/],
    [{ ...rest, userId: 5 }, {}, /userId: expected a text, got 5/],
    [good, { timeout: '50' }, /timeout: expected milliseconds above 0, got "50"/],
    [good, { timeout: NaN }, /timeout/],
  ];
  for (const [request, options, message] of wrong) await t.rejects(service.rank(request as never, options), { code: 'ERR_DATA', message });
  const store = service.histories!;
  await t.rejects(store.append(5 as never, []), { code: 'ERR_DATA', message: /user: expected a text/ });
  await t.rejects(store.read(5 as never), { code: 'ERR_DATA' });

  const events = [{ item: 1 as unknown, tags: [1], time: 50 }];
  await store.append('u', events);
  const before = await service.rank({ ...rest, userId: 'u' });
  events[0]!.item = 'another';
  events[0]!.tags.push(3);
  await service.load(directory);
  t.same((await service.rank({ ...rest, userId: 'u' })).logits, before.logits, 'what the caller does with its objects later is no matter');

  const client = new RankClient<Spec>(`http://127.0.0.1:${await freePort()}`);
  await t.rejects(client.rank({ ...rest, history }), { code: 'ERR_UNAVAILABLE', message: /127\.0\.0\.1.*ECONNREFUSED/ });
  await t.rejects(client.rank({ ...rest, history }, { signal: AbortSignal.abort() }), { name: 'AbortError' });
  const app = fastify();
  await app.register(rankPlugin, { service, prefix: '/rec' });
  const url = await app.listen({ port: 0, host: '127.0.0.1' });
  await t.rejects(new RankClient<Spec>(`${url}/elsewhere`).rank({ ...rest, history }), { code: 'ERR_HTTP', message: /status 404 of POST .*elsewhere/ });
  const far = { item: 2n ** 60n + 1n, tags: [2], time: 60 };
  const there = await new RankClient<Spec>(`${url}/rec`).rank({ ...rest, history: [far] });
  t.same(Float32Array.from(there.logits.click!), (await service.rank({ ...rest, history: [far] })).logits['click'], 'ids above 2^53 travel');
  await app.close();
});
