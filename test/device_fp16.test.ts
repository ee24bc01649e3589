// fp16 and tf32 on an emulated GPU: whole models, training with a loss scale, and what is made of it.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { prebuild } from './emulated_gpu.ts';
import { loadCheckpoint } from '../lib/model/checkpoint.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { State } from '../lib/native/plan.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { PagedRanker } from '../lib/rank/paged_ranker.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { trainDefaults, type TrainOptions } from '../lib/train/options.ts';
import { type StepReport, Trainer } from '../lib/train/trainer.ts';
import { longerIn } from './command.ts';
import { flatRequests, writeJsonl } from './data_files.ts';
import { batchOf, difference, gradients, models, requests, richSchema, sameBits, tiny } from './helpers.ts';

t.setTimeout(900_000); // the addon with the emulated GPU is built here
const cpu = new Runtime({ threads: 2 });
const device = new Runtime({ threads: 1, device: 'emulated' });
t.teardown(() => { cpu.dispose(); device.dispose(); });

const encoded = requests([5, 0, 24, 1], [2, 1, 3], 3);
const gradScaler = { initScale: 1024, growthInterval: 2000 };
type Results = Awaited<ReturnType<typeof gradients>>;
/** The largest error of loss, logits and gradients; a first step of row-wise Adagrad makes much of little ones, so tables are left out. */
const apart = (exact: Results, found: Results): number => {
  const of = (r: Results): Results => Object.fromEntries(['loss', 'logits', 'dense', 'norm.sparse'].map((name) => [name, r[name]!]));
  return difference(of(exact), of(found));
};

await t.test('loss, logits and gradients in fp16 err by 3 bits less than those in bf16 on the CPU', async (t) => {
  for (const name of ['paper, uid and cls', 'rms norm, swiglu', 'gate', 'learnable', 'banded, all queries, flat head', 'own candidate encoder', 'din', 'transformer']) {
    const config = models[name]!;
    const model = new ModelDescription(richSchema, config);
    const batch = batchOf(encoded, config);
    const exact = await gradients(model, batch, {}, cpu, 'reference');
    const off = async (precision: 'fp16' | 'bf16', runtime: Runtime, home: Runtime | 'reference' = runtime): Promise<number> =>
      apart(exact, await gradients(model, batch, { precision, gradScaler }, runtime, home));
    const [best, found, bf16] = [await off('fp16', cpu, 'reference'), await off('fp16', device), await off('bf16', cpu)];
    // Kernels round weights too, which double arithmetic over rounded activations does not.
    t.ok(found > 2e-5 && found <= Math.max(3 * best, bf16 / 4), `${name}: ${found}, double rounded to f16 ${best}, bf16 ${bf16}`);
  }
});

await t.test('parts of a model can stay in fp32', async (t) => {
  const model = new ModelDescription(richSchema, tiny);
  const batch = batchOf(encoded, tiny);
  const exact = await gradients(model, batch, {}, cpu, 'reference');
  for (const mode of ['fp16', 'bf16'] as const)
    for (const full of [['head'], ['layer0.qkv', 'layer1'], ['inner0', 'head', 'candidate_layer0']]) {
      const off = async (runtime: Runtime, home: Runtime | 'reference' = runtime): Promise<number> => apart(exact, await gradients(model, batch, { precision: { mode, full }, gradScaler }, runtime, home));
      const [found, best] = [await off(device), await off(cpu, 'reference')];
      t.ok(found > 2e-5 && found <= 3 * best, `${mode}, ${full.join()} in fp32: ${found}, double rounded alike ${best}`);
    }
});

await t.test('tf32 errs by the 11 bits of its factors', async (t) => {
  for (const name of ['paper, uid and cls', 'transformer']) {
    const config = models[name]!;
    const model = new ModelDescription(richSchema, config);
    const batch = batchOf(encoded, config);
    const exact = await gradients(model, batch, {}, cpu, 'reference');
    const off = async (precision: 'tf32' | 'fp32' | 'bf16'): Promise<number> => apart(exact, await gradients(model, batch, { precision }, device));
    const [tf32, fp32, bf16] = [await off('tf32'), await off('fp32'), await off('bf16')];
    t.ok(fp32 < 2e-5 && tf32 > 3 * fp32 && tf32 < bf16 / 2, `${name}: ${tf32}, fp32 ${fp32}, bf16 ${bf16}`);
  }
  const model = new ModelDescription(richSchema, tiny);
  using state = new State(model.layout.stores(), device);
  model.initialise(state, 5);
  using ranker = new Ranker(model, state, device, { precision: 'tf32' });
  t.ok((await ranker.verifyParity(encoded)).equal, 'a ranker scores the bits of the full pass');
});

const steady: TrainOptions = { ...trainDefaults, precision: 'fp16', schedule: { warmup: 0, kind: 'constant', floor: 1 }, gradScaler: { initScale: 2 ** 20, growthInterval: 3 } };
const optimizers: Record<string, Partial<TrainOptions>> = {
  'AdamW and row-wise Adagrad, clipped': { clip: { dense: 0.5, sparse: 0.5 }, ema: 0.9 },
  'RMSProp and Adam, two micro-batches, average': {
    accumulate: 2, ema: 0.9,
    dense: { kind: 'rmsprop', learningRate: 1e-3, weightDecay: 1e-5, fanInBase: 0, alpha: 0.99, eps: 1e-6, momentum: 0.9 },
    sparse: { kind: 'adam', learningRate: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-6 },
  },
};

/** Everything that a trainer holds from step to step. */
function held(trainer: Trainer, ...except: readonly string[]): Map<string, Float32Array | Int32Array> {
  const passing = ['dense.grad', 'dense.sum', ...except];
  return new Map([...trainer.state.stores.values()].filter((s) => !passing.includes(s.name))
    .map(({ name, dtype, size }) => [name, trainer.state.read(name, 0, dtype === 'i32' ? new Int32Array(size) : new Float32Array(size))]));
}

/** Where two of them differ. */
const changed = (a: ReturnType<typeof held>, b: ReturnType<typeof held>): string[] => [...a].filter(([name, values]) => !sameBits(values, b.get(name)!)).map(([name]) => name);

await t.test('gradients that the scale makes too large for f16: the step is left out as a whole, the scale is halved, and grows again; a resumed run has the same bits', async (t) => {
  for (const [name, options] of Object.entries(optimizers)) {
    const model = new ModelDescription(richSchema, tiny);
    using trainer = new Trainer(model, { ...steady, ...options }, device);
    const batches = options.accumulate ? [batchOf(encoded.slice(0, 2), tiny), batchOf(encoded.slice(2), tiny)] : [batchOf(encoded, tiny)];
    const directory = mkdtempSync(join(tmpdir(), 'longer-fp16-'));
    t.teardown(() => { rmSync(directory, { recursive: true }); });
    let [scale, inARow, skipped] = [steady.gradScaler.initScale, 0, 0];
    const reports: StepReport[] = [];
    while (reports.filter((r) => !r.skipped).length < 9) {
      const before = held(trainer, 'loss_scale', 'loss_scale.good');
      const report = await trainer.train(batches);
      reports.push(report);
      t.equal(report.lossScale, scale, `${name}: step ${report.step} ${report.skipped ? 'is left out' : ''}`);
      t.ok(Number.isFinite(report.loss));
      if (report.skipped) {
        skipped++;
        [scale, inARow] = [scale / 2, 0];
        t.same(changed(before, held(trainer, 'loss_scale', 'loss_scale.good')), [], `${name}: nothing of it is left, neither in parameters nor in optimizers nor in the average`);
      } else {
        t.ok(['dense', 'dense.first', 'dense.average', 'table.table.item'].every((store) => changed(before, held(trainer)).includes(store)), `${name}: step ${report.step} updates`);
        t.ok(report.norm.dense < 100 && report.norm.sparse < 100, `${name}: norms without the scale ${JSON.stringify(report.norm)}`);
        if (++inARow === 3) [scale, inARow] = [scale * 2, 0];
      }
      t.same([...trainer.state.read('loss_scale', 0, new Float32Array(1)), ...trainer.state.read('loss_scale.good', 0, new Int32Array(1))], [scale, inARow]);
      t.equal(trainer.skippedSteps, skipped);
      if (reports.length > 40) throw new Error('the scale does not settle');
      if (reports.filter((r) => !r.skipped).length === 5 && !report.skipped) await trainer.save(directory, {});
    }
    t.ok(reports[0]!.skipped && reports.some((r, i) => i > 0 && !r.skipped && r.lossScale! > reports[i - 1]!.lossScale!), `${name}: some are left out, and the scale grows: ${reports.map((r) => r.lossScale).join()}`);

    using again = new Trainer(model, { ...steady, ...options }, device);
    again.restore(await loadCheckpoint(directory));
    while (again.step < trainer.step) {
      const report = await again.train(batches);
      t.same({ ...report, elapsed: 0 }, { ...reports[report.step - 1]!, elapsed: 0 }, `${name}: step ${report.step} again`);
    }
    t.same(changed(held(again), held(trainer)), [], `${name}: the same bits`);
  }
});

await t.test('training in fp16 goes where fp32 goes', async (t) => {
  const model = new ModelDescription(richSchema, tiny);
  using half = new Trainer(model, { ...steady, gradScaler }, device);
  using full = new Trainer(model, { ...steady, precision: 'fp32' }, cpu);
  const batch = batchOf(encoded, tiny);
  for (let step = 0; step < 6; ++step) {
    const [a, b] = [await half.train(batch), await full.train(batch)];
    t.notOk(a.skipped);
    t.equal(b.lossScale, null);
    t.ok(Math.abs(a.loss - b.loss) < 3e-3, `loss ${a.loss} and ${b.loss}`);
    t.ok(Math.abs(a.norm.dense / b.norm.dense - 1) < 0.02 && Math.abs(a.norm.sparse / b.norm.sparse - 1) < 0.02, `norms ${JSON.stringify([a.norm, b.norm])}`);
  }
});

await t.test('a loss that is not finite stops the run, and is told as elsewhere; the scale is what it was', async (t) => {
  const model = new ModelDescription(richSchema, tiny);
  for (const onNonFinite of ['stop', 'skip'] as const) {
    using trainer = new Trainer(model, { ...steady, gradScaler, onNonFinite }, device);
    trainer.state.write('dense', 3, Float32Array.of(NaN));
    const before = held(trainer, 'loss_scale');
    if (onNonFinite === 'stop') await t.rejects(trainer.train(batchOf(encoded, tiny)), { code: 'ERR_NUMERIC', message: /the parameter .* holds NaN/ });
    else t.ok((await trainer.train(batchOf(encoded, tiny))).skipped);
    t.same(changed(before, held(trainer, 'loss_scale')), []);
    t.same([...trainer.state.read('loss_scale', 0, new Float32Array(1))], [onNonFinite === 'stop' ? 1024 : 512]);
  }
  t.throws(() => new Trainer(model, { ...steady, gradScaler: { initScale: 0.5, growthInterval: 1 } }, device), { code: 'ERR_CONFIG', place: 'train.gradScaler.initScale' });
  t.throws(() => new Trainer(model, { ...steady, gradScaler: { initScale: 2, growthInterval: 0 } }, device), { code: 'ERR_CONFIG', place: 'train.gradScaler.growthInterval' });
});

await t.test('scores from the cache and from pages are the bits of the full pass; a saved model ranks in fp32 and bf16 on the CPU, and is refused there in fp16', async (t) => {
  for (const name of ['paper, uid and cls', 'banded, all queries, flat head']) {
    const model = new ModelDescription(richSchema, models[name]!);
    using state = new State(model.layout.stores(), device);
    model.initialise(state, 5);
    using ranker = new Ranker(model, state, device, { precision: 'fp16' });
    const { equal, checks } = await ranker.verifyParity(encoded);
    t.ok(equal, `${name}: ${JSON.stringify(checks)}`);
    const cache = await ranker.prefill(encoded);
    t.ok([...cache.arrays.values()].every((a) => a.dtype === 'f16' && a.read() instanceof Uint16Array));
    using pages = new PagedRanker(ranker, { bytes: 40_000 });
    t.same(await pages.score(await pages.hold(encoded)), await ranker.score(cache), `${name}: from pages`);
    t.equal(model.cost(24, 'fp16').kvBytesPerUser * 2, model.cost(24).kvBytesPerUser);
  }
  const model = new ModelDescription(richSchema, tiny);
  using trainer = new Trainer(model, { ...steady, gradScaler }, device);
  for (let i = 0; i < 3; ++i) await trainer.train(batchOf(encoded, tiny));
  const directory = mkdtempSync(join(tmpdir(), 'longer-fp16-'));
  t.teardown(() => { rmSync(directory, { recursive: true }); });
  await trainer.save(directory, {});
  const logits = await trainer.predict(batchOf(encoded, tiny));
  {
    using there = await Ranker.open(directory, { runtime: device });
    t.equal(there.precision, 'fp16');
    t.same(await there.score(await there.prefill(encoded)), logits);
  }
  await t.rejects(Ranker.open(directory, { runtime: cpu }), { code: 'ERR_CONFIG', place: 'precision', message: /fp16 runs on CUDA/, remedy: /Use bf16 or fp32 on the CPU/ });
  for (const [precision, allowed] of [['fp32', 5e-3], ['bf16', 5e-2]] as const) {
    using here = await Ranker.open(directory, { runtime: cpu, precision });
    const scores = await here.score(await here.prefill(encoded));
    t.ok(logits.every((x, i) => Math.abs(x - scores[i]!) < allowed), `${precision}: ${Math.max(...logits.map((x, i) => Math.abs(x - scores[i]!)))}`);
  }
});

await t.test('the commands train in fp16, log the scale, and rank what they trained', async (t) => {
  const dir = t.testdir({
    'schema.json': JSON.stringify(richSchema),
    'config.json': JSON.stringify({ model: tiny, train: { epochs: 3, batch: { maxRequests: 4 }, precision: 'fp16', gradScaler: { initScale: 2 ** 22 } } }),
  });
  const at = (name: string): string => join(dir, name);
  writeJsonl(at('data.jsonl'), flatRequests(16));
  const run = (...args: string[]) => longerIn({ LONGER_REC_PREBUILD: prebuild }, ...args, '--json');
  const passed = (...args: string[]): Record<string, unknown> => {
    const { status, stdout, stderr } = run(...args);
    t.equal(status, 0, `${args[0]}: ${stderr}`);
    return JSON.parse(stdout) as Record<string, unknown>;
  };
  const training = ['train', '--data', at('data.jsonl'), '--schema', at('schema.json'), '--config', at('config.json'), '--out', at('model')];
  t.match(run(...training), { status: 2, stderr: /train\.precision: fp16 runs on CUDA/ });
  passed(...training, '--device', 'emulated');
  const lines = readFileSync(at('model/metrics.jsonl'), 'utf8').trim().split('\n').map((l) => JSON.parse(l) as { step: number; skipped: boolean; skippedSteps: number; lossScale: number }).filter((l) => l.skipped !== undefined);
  t.ok(lines.length > 3 && lines[0]!.lossScale === 2 ** 22 && lines[0]!.skipped && lines.at(-1)!.skippedSteps === lines.filter((l) => l.skipped).length && lines.at(-1)!.lossScale < 2 ** 22, JSON.stringify(lines.map((l) => [l.skippedSteps, l.lossScale])));
  const evaluated = ['evaluate', '--model', at('model'), '--data', at('data.jsonl')];
  t.match(run(...evaluated), { status: 2, stderr: /precision: fp16 runs on CUDA.*Use bf16 or fp32 on the CPU/s });
  const losses = [['--device', 'emulated'], ['--precision', 'fp32'], ['--precision', 'bf16']].map((more) => passed(...evaluated, ...more)['tasks'] as Record<string, { values: { logLoss: number } }>);
  for (const task of Object.keys(losses[0]!)) for (const other of losses) t.ok(Math.abs(other[task]!.values.logLoss - losses[0]![task]!.values.logLoss) < 5e-3, task);
  t.match(passed('verify', '--model', at('model'), '--data', at('data.jsonl'), '--requests', '3', '--device', 'emulated'), { pass: true, device: 'emulated', precision: 'fp16' });
  t.match(passed('verify', '--model', at('model'), '--data', at('data.jsonl'), '--requests', '3', '--precision', 'fp32'), { pass: true, device: 'cpu', precision: 'fp32' });
  t.match(passed('inspect', '--model', at('model')), { precision: 'fp16' });
});
