// Whole models on the CUDA path, on an emulated GPU: the kernels, the device's memory, streams and plans, everything but the GPU.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import v8 from 'node:v8';
import vm from 'node:vm';
import t from 'tap';
import { prebuild } from './emulated_gpu.ts';
import { packCandidates } from '../lib/data/batch.ts';
import type { Graph } from '../lib/graph/graph.ts';
import { joinLayouts, layoutBeside, layoutCandidates } from '../lib/model/layout.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { PagedGraphs } from '../lib/model/pages.ts';
import { layoutKeys } from '../lib/model/pages_layout.ts';
import { DeviceArray, DeviceMemory } from '../lib/native/device_array.ts';
import { State } from '../lib/native/plan.ts';
import { Runtime } from '../lib/native/runtime.ts';
import type { NumericArray } from '../lib/native/types.ts';
import type { Holding } from '../lib/rank/holding.ts';
import { PagedCache } from '../lib/rank/paged_cache.ts';
import { PagedRanker } from '../lib/rank/paged_ranker.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { trainDefaults, type TrainOptions } from '../lib/train/options.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { longerIn } from './command.ts';
import { flatRequests, writeJsonl } from './data_files.ts';
import { appendSafe, banded, batchOf, difference, encodedTo, gradients, models, requests, richSchema, tiny } from './helpers.ts';

v8.setFlagsFromString('--expose-gc');

t.setTimeout(900_000); // the addon with the emulated GPU is built here
const cpu = new Runtime({ threads: 2 });
const device = new Runtime({ threads: 1, device: 'emulated' });
t.teardown(() => { cpu.dispose(); device.dispose(); });

const encoded = requests([5, 0, 24, 1], [2, 1, 3], 3);
/** Largest difference, relative to the largest number. */
const apart = (a: ArrayLike<number>, b: ArrayLike<number>): number => difference({ x: Float64Array.from(a) }, { x: Float64Array.from(b) });

await t.test('forward, loss and gradients of a training step are as near to double as those of the CPU', async (t) => {
  for (const name of [
    'paper, uid and cls', 'anchored', 'merge 4, no inner', 'recent and uniform', 'learnable', 'rms norm, swiglu', 'gate', 'banded, all queries, flat head',
    'own candidate encoder', 'base', 'sum pooling', 'din', 'transformer',
  ]) {
    const config = models[name]!;
    const model = new ModelDescription(richSchema, config);
    const batch = batchOf(encoded, config);
    const want = await gradients(model, batch, {}, cpu, 'reference');
    const [near, found] = [difference(want, await gradients(model, batch, {}, cpu)), difference(want, await gradients(model, batch, {}, device))];
    t.ok(found <= 3 * near + 5e-6, `${name}: ${found}, the CPU ${near}`);
  }
});

await t.test('bf16 loses no more than on the CPU', async (t) => {
  const model = new ModelDescription(richSchema, tiny);
  const batch = batchOf(encoded, tiny);
  const exact = await gradients(model, batch, {}, cpu, 'reference');
  const [near, found] = [difference(exact, await gradients(model, batch, { precision: 'bf16' }, cpu)), difference(exact, await gradients(model, batch, { precision: 'bf16' }, device))];
  t.ok(found > 1e-4 && found <= 2 * near, `${found}, the CPU ${near}`);
});

const steady: TrainOptions = { ...trainDefaults, schedule: { warmup: 0, kind: 'constant', floor: 1 }, dense: { ...trainDefaults.dense, eps: 1e-6 } };
const optimizers: Record<string, Partial<TrainOptions>> = {
  'AdamW and row-wise Adagrad, clipped': { clip: { dense: 0.5, sparse: 0.5 } },
  'RMSProp and Adam, two micro-batches, average': {
    accumulate: 2, ema: 0.9,
    dense: { kind: 'rmsprop', learningRate: 1e-3, weightDecay: 1e-5, fanInBase: 0, alpha: 0.99, eps: 1e-6, momentum: 0.9 },
    sparse: { kind: 'adam', learningRate: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-6 },
  },
};

await t.test('steps of a trainer go where the CPU goes, and what is saved ranks on both', async (t) => {
  for (const [name, options] of Object.entries(optimizers)) {
    const model = new ModelDescription(richSchema, tiny);
    using here = new Trainer(model, { ...steady, ...options }, cpu);
    using there = new Trainer(model, { ...steady, ...options }, device);
    const batches = options.accumulate ? [batchOf(encoded.slice(0, 2), tiny), batchOf(encoded.slice(2), tiny)] : [batchOf(encoded, tiny)];
    for (let step = 0; step < 3; ++step) {
      const [a, b] = [await here.train(batches), await there.train(batches)];
      t.ok(Math.abs(a.loss - b.loss) < 1e-5, `${name}: loss ${a.loss} and ${b.loss}`);
      t.ok(apart([a.norm.dense, a.norm.sparse], [b.norm.dense, b.norm.sparse]) < 1e-4, `${name}: norms ${JSON.stringify([a.norm, b.norm])}`);
    }
    for (const store of [...here.state.stores.values()].filter((s) => s.dtype === 'f32'))
      t.ok(apart(here.state.read(store.name, 0, new Float64Array(store.size)), there.state.read(store.name, 0, new Float64Array(store.size))) < 2e-3, `${name}: ${store.name}`);
    const directory = mkdtempSync(join(tmpdir(), 'longer-device-'));
    t.teardown(() => { rmSync(directory, { recursive: true }); });
    await there.save(directory, {});
    const logits = await there.predict(batchOf(encoded, tiny));
    for (const runtime of [cpu, device]) {
      using ranker = await Ranker.open(directory, { runtime });
      const scores = await ranker.score(await ranker.prefill(encoded));
      if (runtime === device) t.same(scores, logits, `${name}: scores from the cache are the bits of the full pass`);
      else t.ok(apart(logits, scores) < 1e-5, `${name}: scores of the CPU`);
    }
  }
});

await t.test('the bits of a score are the same from the cache, for a request and a candidate alone and on another runtime', async (t) => {
  for (const name of ['paper, uid and cls', 'rms norm, swiglu', 'banded, all queries, flat head', 'transformer']) {
    const model = new ModelDescription(richSchema, models[name]!);
    const state = new State(model.layout.stores(), device);
    model.initialise(state, 5);
    using ranker = new Ranker(model, state, device, { owned: [state] });
    const { equal, checks } = await ranker.verifyParity(encoded);
    t.ok(equal, `${name}: ${JSON.stringify(checks)}`);
    using pages = new PagedRanker(ranker, { bytes: 40_000 });
    t.same(await pages.score(await pages.hold(encoded)), await ranker.score(await ranker.prefill(encoded)), `${name}: from pages`);
  }
});

/** In a staging every array begins at a multiple of 256 bytes. */
const staged = (bytes: number): number => Math.ceil(bytes / 256) * 256;
const stagedOf = (arrays: Iterable<readonly [string, { readonly byteLength: number }]>): number => [...arrays].reduce((n, [, a]) => n + staged(a.byteLength), 0);
const bytesOf = (arrays: Iterable<readonly [string, { readonly byteLength: number }]>): number => [...arrays].reduce((n, [, a]) => n + a.byteLength, 0);
/** Bytes that a call copies to the device and back. */
async function copied(call: () => Promise<unknown>): Promise<{ in: number; out: number }> {
  const before = device.deviceUse();
  await call();
  const after = device.deviceUse();
  return { in: after.copiedIn - before.copiedIn, out: after.copiedOut - before.copiedOut };
}

await t.test('a cache stays on the device: a score copies candidates, tables of pages and logits, whatever the histories hold and the pool', async (t) => {
  for (const name of ['banded', 'paper, uid and cls', 'din', 'base']) {
    const config = models[name]!;
    const model = new ModelDescription(richSchema, config);
    using state = new State(model.layout.stores(), device);
    model.initialise(state, 5);
    using ranker = new Ranker(model, state, device);
    const candidates = layoutCandidates(config, packCandidates(richSchema, encoded));
    const logits = staged(4 * encoded.reduce((n, r) => n + r.candidates, 0) * richSchema.tasks.length);
    const words = 8; // what kernels report
    const read = (graph: Graph, arrays: ReadonlyMap<string, NumericArray>): [string, NumericArray][] => [...arrays].filter(([n]) => graph.inputs.has(n));

    const cache = await ranker.prefill(encoded);
    const beside = layoutBeside(config, cache.inputs, candidates);
    const given = read(model.score(), new Map([...cache.inputs.arrays, ...beside.arrays]));
    const wanted = stagedOf(given);
    t.same(await copied(() => ranker.score(cache)), { in: wanted, out: logits + words }, `${name}: from a prefill`);
    t.ok((await copied(() => ranker.prefill(encoded))).out === words, `${name}: nothing of a cache comes back`);
    t.ok(bytesOf(cache.arrays) > 3 * bytesOf(given) || name === 'base', `${name}: ${bytesOf(cache.arrays)} bytes of cache, ${bytesOf(given)} copied`);

    for (const bytes of [40_000, 400_000]) {
      using pages = new PagedRanker(ranker, { bytes });
      const graphs = new PagedGraphs(model, 'fp32', pages.cache.pool.pageBytes);
      const held = await pages.hold(encoded);
      const keys = layoutKeys(config, graphs.paged, (held as Holding[]).map((h) => h.held.item.chain));
      const single = graphs.single.reduce((n, e) => n + staged(4 * encoded.length * e.width), 0);
      const tables = stagedOf(read(graphs.score(), joinLayouts(config, keys, candidates).arrays));
      t.same(await copied(() => pages.score(held)), { in: tables + single, out: logits + words }, `${name}: from ${bytes} bytes of pages`);
      const filled = await copied(() => pages.hold(requests([20], [1], 8)));
      t.ok(filled.in < 9000 && filled.out === graphs.single.reduce((n, e) => n + staged(4 * e.width), 0) + words, `${name}: what is written to pages stays: ${JSON.stringify(filled)}`);
    }
  }
});

await t.test('pages on the device are grown, copied on write, shared and left, with the bits of a cold ranker', async (t) => {
  for (const [name, config, precision] of [['banded', banded, 'fp32'], ['full', appendSafe, 'bf16']] as const) {
    const model = new ModelDescription(richSchema, config);
    using state = new State(model.layout.stores(), device);
    model.initialise(state, 4);
    using ranker = new Ranker(model, state, device, { precision });
    using pages = new PagedRanker(ranker, { bytes: precision === 'bf16' ? 3_000 : 4_000 });
    const outcomes: string[] = [];
    for (const length of [9, 13, 14, 22, 24, 24])
      for (const user of [1, 2, 3]) {
        const r = encodedTo({ ...requests([24], [2], user)[0]!, userKey: `u${user}` }, length);
        const [held] = await pages.hold([r]);
        t.same(await pages.score([held!]), await ranker.score(await ranker.prefill([r])), `${name}: user ${user}, ${length} events, ${held!.outcome}`);
        outcomes.push(held!.outcome);
        held!.release();
      }
    for (const outcome of ['miss', 'partial', 'hit']) t.ok(outcomes.includes(outcome), `${name}: ${outcome} among ${outcomes.join()}`);
    t.ok(pages.cache.stats().evictions > 0, `${name}: some left`);
  }
});

await t.test('appending goes on from a cache on the device', async (t) => {
  const model = new ModelDescription(richSchema, banded);
  using state = new State(model.layout.stores(), device);
  model.initialise(state, 4);
  using ranker = new Ranker(model, state, device);
  const history = Array.from({ length: 12 }, (_, i) => ({ item: i + 1, action: i % 3, dwell: 5 * i, time: 1000 + 10 * i }));
  const request = { user: { user_id: 'u', age: 3, likes: [4] }, context: { hour: 1 }, time: 2000, candidates: [{ item: 3, price: 1 }, { item: 9, price: 2 }] };
  const cache = await ranker.prefill([{ ...request, history: history.slice(0, 7) }]);
  const grown = await ranker.append(cache, [{ history: history.slice(7), time: 2000 }]);
  t.ok(grown.reuse[0]!.rows.kept > 0);
  t.same(await ranker.score(grown, [request.candidates]), await ranker.score(await ranker.prefill([{ ...request, history }])));
});

await t.test('memory of the device goes back when it is disposed, or collected; and is not another device\'s', async (t) => {
  const model = new ModelDescription(richSchema, tiny);
  using state = new State(model.layout.stores(), device);
  model.initialise(state, 5);
  using ranker = new Ranker(model, state, device);
  const first = await ranker.prefill(encoded);
  const want = await ranker.score(first);
  const collect = vm.runInNewContext('gc') as () => void;
  const settled = async (): Promise<number> => {
    for (let i = 0; i < 5; ++i) {
      collect();
      await new Promise((resolve) => { setImmediate(resolve); });
    }
    return device.deviceUse().allocated;
  };
  const before = await settled();
  const bytes = first.arrays.values().next().value!.memory.bytes;
  const running = ranker.score(first);
  first.dispose();
  t.same(await running, want, 'a run under way keeps what it reads');
  t.equal(await settled(), before - bytes, 'disposed');
  await t.rejects(ranker.score(first), { code: 'ERR_DISPOSED' });
  t.throws(() => first.arrays.values().next().value!.read(), { code: 'ERR_DISPOSED' });
  for (let i = 0; i < 3; ++i) await ranker.score(await ranker.prefill(encoded));
  t.equal(await settled(), before - bytes, 'collected');
  {
    using cache = PagedRanker.cacheFor(ranker, { bytes: 50_000 });
    t.equal(device.deviceUse().allocated, before - bytes + cache.pool.memory.bytes);
    t.throws(() => new PagedRanker(ranker, { cache: new PagedCache({ bytes: 50_000, pageBytes: cache.pool.pageBytes }) }), { code: 'ERR_CONFIG', message: /memory of cpu, the ranker runs on emulated/ });
  }
  t.equal(device.deviceUse().allocated, before - bytes, 'a pool goes with its cache');
  const here = new State(model.layout.stores());
  model.initialise(here, 5);
  using other = new Ranker(model, here, cpu, { owned: [here] });
  await t.rejects(ranker.score(await other.prefill(encoded)), { code: 'ERR_DEVICE', message: /memory of cpu, the plan runs on emulated/ });
  await t.rejects(other.score(await ranker.prefill(encoded)), { code: 'ERR_DEVICE', message: /memory of emulated, the plan runs on cpu/ });
  t.throws(() => cpu.deviceUse(), { code: 'ERR_DEVICE' });
  t.throws(() => new DeviceMemory(2 ** 40, device), { code: 'ERR_MEMORY' });
  t.throws(() => new DeviceArray(new DeviceMemory(1024, device), 'f32', 256, 193), { code: 'ERR_SHAPE' });
});

await t.test('runs that are posted one after another give what they give one at a time, and repeated ones are launched as graphs', async (t) => {
  const model = new ModelDescription(richSchema, tiny);
  using trainer = new Trainer(model, steady, device);
  const batches = [encoded, encoded.slice(0, 2), encoded.slice(2)].map((e) => batchOf(e, tiny));
  const launches = (): number => device.deviceUse().graphLaunches;
  let before = launches();
  for (let step = 0; step < 4; ++step) await trainer.train(batches[0]!);
  t.equal(launches() - before, 3, 'steps of one size are a graph from the second on');
  const want: Float32Array[] = [];
  for (const b of batches) want.push(await trainer.predict(b));
  before = launches();
  const posted = await Promise.all([0, 1, 2, 3].flatMap(() => batches).map((b) => trainer.predict(b)));
  t.same(posted, [0, 1, 2, 3].flatMap(() => want));
  t.ok(launches() - before > 0, `${launches() - before} of 12 are launched as graphs`);
});

await t.test('two runtimes on one device do not meet', async (t) => {
  using other = new Runtime({ threads: 1, device: 'emulated' });
  const model = new ModelDescription(richSchema, models['sum pooling']!);
  const batch = batchOf(encoded, models['sum pooling']!);
  const [alone, one, two] = [new Trainer(model, steady, device), new Trainer(model, steady, device), new Trainer(model, steady, other)];
  for (let step = 0; step < 2; ++step) {
    const want = await alone.train(batch);
    const [a, b] = await Promise.all([one.train(batch), two.train(batch)]);
    t.same([a.loss, b.loss], [want.loss, want.loss]);
  }
  t.throws(() => new Trainer(model, steady, cpu, device), { code: 'ERR_GRAPH', message: /not on the device of the runtime/ });
  for (const trainer of [alone, one, two]) trainer.dispose();
});

await t.test('what the device cannot do is said', async (t) => {
  t.throws(() => new Runtime({ device: 'cuda' }), { code: 'ERR_DEVICE', message: /'cuda:0' cannot be used/ });
  t.throws(() => new Runtime({ device: 'gpu' as never }), { code: 'ERR_CONFIG', place: 'device' });
  t.throws(() => new State([{ name: 'w', dtype: 'f32', size: 2 ** 29 }], device), { code: 'ERR_MEMORY', message: /^w 2048\.0 MiB: 2147483648 bytes of parameters/ });
  const model = new ModelDescription(richSchema, models['din']!);
  using trainer = new Trainer(model, steady, device);
  const large = batchOf(requests(Array.from({ length: 40 }, () => 24), [500], 1), models['din']!);
  await t.rejects(trainer.train(large), { code: 'ERR_MEMORY', place: /din\.pairs .* MiB/, remedy: /smaller batches/ });
  t.equal((await trainer.train(batchOf(encoded, models['din']!))).step, 1, 'a smaller batch runs after that');
});

await t.test('the commands run on a device: what it trained ranks as on the CPU, and every proof holds there', async (t) => {
  const dir = t.testdir({ 'schema.json': JSON.stringify(richSchema), 'config.json': JSON.stringify({ model: tiny, train: { epochs: 2, batch: { maxRequests: 4 } } }) });
  const at = (name: string): string => join(dir, name);
  writeJsonl(at('data.jsonl'), flatRequests(16));
  const run = (...args: string[]): Record<string, unknown> => {
    const { status, stdout, stderr } = longerIn({ LONGER_REC_PREBUILD: prebuild }, ...args, '--json');
    t.equal(status, 0, `${args[0]}: ${stderr}`);
    return JSON.parse(stdout) as Record<string, unknown>;
  };
  run('train', '--data', at('data.jsonl'), '--schema', at('schema.json'), '--config', at('config.json'), '--out', at('model'), '--device', 'emulated');
  const metrics = (...more: string[]): unknown => run('evaluate', '--model', at('model'), '--data', at('data.jsonl'), ...more)['tasks'];
  const [here, there] = [metrics(), metrics('--device', 'emulated')] as Record<string, { values: { logLoss: number } }>[];
  for (const task of Object.keys(here!)) t.ok(Math.abs(here![task]!.values.logLoss - there![task]!.values.logLoss) < 1e-4, task);
  const proved = run('verify', '--model', at('model'), '--data', at('data.jsonl'), '--requests', '3', '--device', 'emulated');
  t.match(proved, { pass: true, device: 'emulated' });
  t.ok((proved['proofs'] as unknown[]).length >= 8);
});
