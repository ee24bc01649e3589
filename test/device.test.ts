// Whole models on the CUDA path, on an emulated GPU: the kernels, the device's memory, streams and plans, everything but the GPU.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ModelDescription } from '../lib/model/model.ts';
import { Runtime, State } from '../lib/native/plan.ts';
import { PagedRanker } from '../lib/rank/paged_ranker.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { trainDefaults, type TrainOptions } from '../lib/train/options.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { batchOf, difference, gradients, models, requests, richSchema, tiny } from './helpers.ts';

t.setTimeout(900_000); // the addon with the emulated GPU is built here
const root = join(import.meta.dirname, '..');
const build = spawnSync(process.execPath, [join(root, 'scripts', 'build-emulated.cjs')], { encoding: 'utf8' });
if (build.status !== 0) throw new Error(`the addon with the emulated GPU does not build:\n${(build.stdout + build.stderr).slice(-3000)}`);
process.env['LONGER_REC_PREBUILD'] = join(root, 'build', 'cmake', 'emulated');

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
  t.throws(() => new State([{ name: 'w', dtype: 'f32', size: 2 ** 29 }], device), { code: 'ERR_MEMORY', message: /2147483648 bytes of parameters/ });
  const model = new ModelDescription(richSchema, models['din']!);
  using trainer = new Trainer(model, steady, device);
  const large = batchOf(requests(Array.from({ length: 40 }, () => 24), [500], 1), models['din']!);
  await t.rejects(trainer.train(large), { code: 'ERR_MEMORY', place: /din\.pairs .* MiB/, remedy: /smaller batches/ });
  t.equal((await trainer.train(batchOf(encoded, models['din']!))).step, 1, 'a smaller batch runs after that');
});
