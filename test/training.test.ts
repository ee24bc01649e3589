import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { loadCheckpoint } from '../lib/model/checkpoint.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { Runtime } from '../lib/native/runtime.ts';
import type { HostBackend } from '../lib/native/types.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { fit } from '../lib/train/fit.ts';
import { ParameterGroups } from '../lib/train/groups.ts';
import { trainDefaults, type TrainOptions } from '../lib/train/options.ts';
import { checkTrainOptions } from '../lib/train/shape.ts';
import { averageDecay } from '../lib/train/step.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { batchOf, requests, richSchema, sameBits, tiny } from './helpers.ts';

const runtime = new Runtime({ threads: 2 });
t.teardown(() => { runtime.dispose(); });

const fast: TrainOptions = { ...trainDefaults, schedule: { warmup: 0, kind: 'constant', floor: 1 } };
const encoded = requests([5, 0, 24, 1, 30, 8, 12, 3], [2, 1, 3], 3);
const model = new ModelDescription(richSchema, tiny);
const batch = (from: number, to: number) => batchOf(encoded.slice(from, to), tiny.maxHistory);
const trainerOf = (options: Partial<TrainOptions>, rt = runtime, of = model, backend: HostBackend = 'cpu'): Trainer => new Trainer(of, { ...fast, ...options }, rt, backend);

function directory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'longer-training-'));
  t.teardown(() => { rmSync(path, { recursive: true }); });
  return path;
}

/** Every parameter end to end. */
function parameters(trainer: Trainer): Float64Array {
  const parts: number[] = [];
  for (const [name, { shape }] of [...trainer.model.layout.dense, ...trainer.model.layout.tables]) {
    const { store, offset } = trainer.model.layout.place(name);
    parts.push(...trainer.state.read(store, offset, new Float64Array(shape.reduce((a, b) => a * b, 1))));
  }
  return Float64Array.from(parts);
}
/** Deep comparison of long arrays is slow. */
const largest = (a: ArrayLike<number>, b: ArrayLike<number>): number => Array.from(a).reduce((m, x, i) => Math.max(m, Math.abs(x - b[i]!)), 0);

await t.test('micro-batches make the step of one large batch', async (t) => {
  for (const sparse of [trainDefaults.sparse, { kind: 'adam', learningRate: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8 }] as const) {
    // Gradients that are nought but for rounding (of key biases) must not become steps.
    const options = { sparse, dense: { ...trainDefaults.dense, eps: 1e-6 }, clip: { dense: 0.5, sparse: 0.5 } };
    const [large, small] = [trainerOf(options), trainerOf({ ...options, accumulate: 3 })];
    for (let step = 0; step < 3; ++step) {
      const a = await large.train(batch(0, 8));
      // Parts of 1, 2 and 5 requests with other numbers of labels: a mean of their means would be another number.
      const b = await small.train([batch(0, 1), batch(1, 3), batch(3, 8)]);
      t.ok(Math.abs(a.loss - b.loss) < 1e-6, `loss ${a.loss} and ${b.loss}`);
      t.ok(largest(a.perTask, b.perTask) < 1e-6);
      t.ok(Math.abs(a.norm.dense - b.norm.dense) < 1e-5 * a.norm.dense && Math.abs(a.norm.sparse - b.norm.sparse) < 1e-5 * a.norm.sparse, `norms ${JSON.stringify([a.norm, b.norm])}`);
      t.equal(b.candidates, a.candidates);
    }
    const difference = largest(parameters(large), parameters(small));
    t.ok(difference < 2e-4, `parameters after three steps differ by ${difference}`);
    await t.rejects(small.train([batch(0, 1), batch(1, 2), batch(2, 3), batch(3, 4)]), { code: 'ERR_CONFIG' });
    large.dispose();
    small.dispose();
  }
});

await t.test('fit groups batches into steps, the last one of an epoch with what is left', async (t) => {
  const trainer = trainerOf({ accumulate: 3, epochs: 2, batch: { maxEvents: 1000, maxRequests: 2, maxCandidates: 1000 }, shuffleWindow: 1 });
  const steps: [number, number, number][] = [];
  await fit(trainer, encoded, undefined, { onStep: (report, at) => { steps.push([at.epoch, at.batch, report.requests]); } });
  t.strictSame(steps, [[0, 3, 6], [0, 4, 2], [1, 3, 6], [1, 4, 2]]);
  trainer.dispose();
});

await t.test('groups: rates by name, scope and pattern', async (t) => {
  const groups = [{ match: 'head', learningRate: 0 }, { match: 'table.item', learningRate: 0 }, { match: '*.norm1.*', learningRate: 2 }];
  const [plain, grouped] = [trainerOf({}), trainerOf({ groups })];
  const read = (trainer: Trainer, name: string): Float32Array => trainer.model.parameters(trainer.state).get(name)!.data;
  const start = new Map([...plain.model.parameters(plain.state)].map(([name, p]) => [name, p.data]));
  for (const x of [plain, grouped]) await x.train(batch(0, 8));
  for (const name of start.keys()) {
    const moved = largest(read(grouped, name), start.get(name)!);
    if (name.startsWith('head.') || name === 'table.item') t.equal(moved, 0, `${name} is frozen`);
    else if (name.includes('.norm1.')) t.ok(Math.abs(moved / largest(read(plain, name), start.get(name)!) - 2) < 1e-3, `${name} moves twice as far`);
    else t.same(read(grouped, name), read(plain, name), `${name} as without groups`);
  }
  const decayed = trainerOf({ groups: [{ match: 'layer0.*.weight', weightDecay: 0 }, { match: '*.bias', weightDecay: 0.5 }] });
  const mask = decayed.state.read('dense.decay', 0, new Float32Array(model.layout.denseSize));
  const of = (name: string): number => mask[model.layout.dense.get(name)!.offset]!;
  t.strictSame([of('layer0.out.weight'), of('layer1.out.weight'), of('layer0.out.bias'), of('final_norm.gain')], [0, 1, 0.5, 0]);
  t.throws(() => trainerOf({ groups: [{ match: 'haed' }] }), { code: 'ERR_CONFIG' });
  t.throws(() => trainerOf({ groups: [{ match: 'layer0.qvk' }] }), { code: 'ERR_CONFIG', message: /did you mean 'layer0.qkv'/ });
  t.throws(() => trainerOf({ groups: [{ match: 'head', learningRate: -1 }] }), { code: 'ERR_CONFIG', place: 'train.groups[0].learningRate' });
  t.throws(() => trainerOf({ groups: [{ match: 'table', weightDecay: 1 }] }), { code: 'ERR_CONFIG', place: 'train.groups[0].weightDecay' });
  for (const x of [plain, grouped, decayed]) x.dispose();
});

await t.test('weights of wide layers learn slower in proportion to their inputs, and decay as fast', async (t) => {
  const dense = { ...trainDefaults.dense, weightDecay: 0 };
  const [alike, scaled] = [trainerOf({ dense: { ...dense, fanInBase: 0 } }), trainerOf({ dense: { ...dense, fanInBase: 8 } })];
  const read = (trainer: Trainer, name: string): Float32Array => trainer.model.parameters(trainer.state).get(name)!.data;
  const start = new Map([...alike.model.parameters(alike.state)].map(([name, p]) => [name, p.data]));
  for (const x of [alike, scaled]) await x.train(batch(0, 8));
  for (const [name, { shape }] of model.layout.dense) {
    const factor = largest(read(scaled, name), start.get(name)!) / largest(read(alike, name), start.get(name)!);
    const expected = name.endsWith('.weight') ? Math.min(1, 8 / shape[0]!) : 1;
    t.ok(Math.abs(factor / expected - 1) < 1e-3, `${name} moves ${expected} times as far`);
  }
  const classes = new ParameterGroups(model.layout, [{ match: 'head', learningRate: 0.5 }], 8).classes;
  t.ok(classes.some(({ learningRate, weightDecay }) => learningRate < 0.5 && learningRate * weightDecay === 0.5), 'a group scales rate and decay, the width the rate alone');
  t.throws(() => trainerOf({ dense: { ...dense, fanInBase: -1 } }), { code: 'ERR_CONFIG', place: 'train.dense.fanInBase' });
  for (const x of [alike, scaled]) x.dispose();
});

await t.test('the sparse rate can have a schedule of its own', async (t) => {
  const warm: TrainOptions['schedule'] = { warmup: 10, kind: 'constant', floor: 1 };
  const moved = async (options: Partial<TrainOptions>): Promise<number> => {
    const trainer = trainerOf(options);
    const before = trainer.model.parameters(trainer.state).get('table.item')!.data;
    await trainer.train(batch(0, 8));
    const distance = largest(trainer.model.parameters(trainer.state).get('table.item')!.data, before);
    trainer.dispose();
    return distance;
  };
  const [both, own, none] = [await moved({ schedule: warm }), await moved({ schedule: warm, sparseSchedule: fast.schedule }), await moved({ sparseSchedule: warm })];
  t.ok(Math.abs(own / both - 10) < 1e-2 && Math.abs(none / both - 1) < 1e-2, `${both}, ${own}, ${none}`);
  t.throws(() => { checkTrainOptions({ ...fast, sparseSchedule: { ...warm, kind: 'step' as never } }); }, { code: 'ERR_CONFIG', place: 'train.sparseSchedule.kind' });
});

await t.test('a moving average is what is evaluated and saved; training goes on from the raw parameters', async (t) => {
  const path = directory(t);
  const options = { ema: 0.9, precision: 'bf16' } as const;
  const [whole, first] = [trainerOf(options), trainerOf(options)];
  const seen: Float32Array[] = [];
  for (let step = 0; step < 3; ++step) {
    for (const x of [whole, first]) await x.train(batch(0, 8));
    seen.push(whole.state.read('dense', 0, new Float32Array(model.layout.denseSize)));
  }
  // The average of what was seen, weighted by 0.9^age, without a share of the start.
  const weights = [0.81, 0.9, 1];
  const wanted = seen[0]!.map((_, i) => weights.reduce((s, w, k) => s + w * seen[k]![i]!, 0) / 2.71);
  t.ok(largest(whole.state.read('dense.average', 0, new Float32Array(model.layout.denseSize)), wanted) < 1e-6);
  t.equal(averageDecay(0.9, 1), 0);
  await first.save(path, {});
  const checkpoint = await loadCheckpoint(path);
  const resumed = trainerOf(options);
  resumed.restore(checkpoint);
  for (const x of [whole, resumed]) await x.train(batch(2, 6));
  t.ok(sameBits(parameters(resumed), parameters(whole)), 'resume gives the same bits');
  t.same(await resumed.predict(batch(0, 8)), await whole.predict(batch(0, 8)));
  const raw = trainerOf({ precision: 'bf16' });
  raw.state.write('dense', 0, whole.state.read('dense', 0, new Float32Array(model.layout.denseSize)));
  t.notSame(await raw.predict(batch(0, 8)), await whole.predict(batch(0, 8)), 'the average is another model than the raw parameters');
  using ranker = await Ranker.open(path, { runtime });
  t.strictSame(ranker.precision, 'bf16', 'served as trained');
  t.same(await ranker.score(await ranker.prefill(encoded)), await first.predict(batch(0, 8)), 'what is saved is what was evaluated');
  using other = await Ranker.open(path, { runtime, precision: 'fp32' });
  t.notSame(await other.score(await other.prefill(encoded)), await first.predict(batch(0, 8)), 'or in another precision');
  for (const x of [whole, first, resumed, raw]) x.dispose();
});

await t.test('dropout and accumulation give the same bits for any threads, with recompute, and after a resume', async (t) => {
  const dropping = new ModelDescription(richSchema, { ...tiny, dropout: 0.3 });
  const one = new Runtime({ threads: 1 });
  for (const precision of ['fp32', 'bf16'] as const) {
    const options = { accumulate: 2, precision };
    const steps = [[batch(0, 3), batch(3, 8)], [batch(4, 8)], [batch(0, 5), batch(5, 8)], [batch(1, 2), batch(2, 8)]];
    const run = async (rt: Runtime, more: Partial<TrainOptions> = {}): Promise<Float64Array> => {
      const trainer = trainerOf({ ...options, ...more }, rt, dropping);
      for (const s of steps) await trainer.train(s);
      const result = parameters(trainer);
      trainer.dispose();
      return result;
    };
    const wanted = await run(runtime);
    t.ok(sameBits(await run(one), wanted), `${precision}: threads`);
    t.ok(sameBits(await run(runtime, { recompute: 'block' }), wanted), `${precision}: recompute`);
    t.notOk(sameBits(await run(runtime, { seed: 2 }), wanted), 'another seed, other bits');
    const path = directory(t);
    const before = trainerOf(options, runtime, dropping);
    for (const s of steps.slice(0, 2)) await before.train(s);
    await before.save(path, {});
    const after = trainerOf(options, one, dropping);
    after.restore(await loadCheckpoint(path));
    for (const s of steps.slice(2)) await after.train(s);
    t.ok(sameBits(parameters(after), wanted), `${precision}: resume`);
    before.dispose();
    after.dispose();
  }
  one.dispose();
});

await t.test('a NaN or Inf stops with step, operation and feature, or is skipped and counted; nothing is updated', async (t) => {
  const bad = batch(0, 8);
  const column = bad.columns.get('candidate.numeric') as Float32Array;
  column[3] = Infinity;
  for (const accumulate of [1, 2]) {
    const given = accumulate === 1 ? bad : [batch(0, 2), bad];
    const stops = trainerOf({ accumulate });
    const before = parameters(stops);
    await stops.train(batch(0, 8));
    const trained = parameters(stops);
    const error = await stops.train(given).then(() => undefined, (e: unknown) => e as Error & { code: string; place: string });
    t.match(error, { code: 'ERR_NUMERIC', message: /step 2 gave .* the feature candidate\.price is Infinity in request r2/ });
    t.match(error!.place, /\(linear|\(concat/, `the operation is named: ${error!.place}`);
    t.ok(sameBits(parameters(stops), trained), 'nothing was updated');
    t.notOk(sameBits(trained, before), 'the step before it was');
    t.equal(stops.step, 1);
    const skips = trainerOf({ accumulate, onNonFinite: 'skip', ema: 0.9 });
    await skips.train(batch(0, 8));
    const report = await skips.train(given);
    t.ok(report.skipped && skips.skippedSteps === 1 && skips.step === 2);
    t.ok(sameBits(parameters(skips), trained), 'as before the step');
    const path = directory(t);
    await skips.save(path, {});
    const resumed = trainerOf({ accumulate, onNonFinite: 'skip', ema: 0.9 });
    resumed.restore(await loadCheckpoint(path));
    t.equal(resumed.skippedSteps, 1);
    for (const x of [stops, skips, resumed]) x.dispose();
  }
  const huge = batch(0, 8);
  (huge.columns.get('candidate.numeric') as Float32Array)[0] = 3e38;
  const trainer = trainerOf({});
  const { offset, shape } = model.layout.dense.get('head.0.weight')!;
  trainer.state.write('dense', offset, new Float32Array(shape[0]! * shape[1]!).fill(100));
  await t.rejects(trainer.train(huge), { code: 'ERR_NUMERIC', message: /candidate\.price is 3\.00e\+38/ });
  trainer.state.write('table.table.item', 0, Float32Array.of(NaN));
  trainer.state.write('dense', 0, Float32Array.of(NaN));
  await t.rejects(trainer.train(batch(0, 8)), { code: 'ERR_NUMERIC', message: /the parameter \S+ holds NaN/ });
  trainer.dispose();
});

await t.test('every task is evaluated in one pass', async (t) => {
  const trainer = trainerOf({});
  const sets = await trainer.evaluateTasks([batch(0, 4), batch(4, 8)]);
  t.strictSame([...sets.keys()], ['click', 'buy']);
  for (const [i, set] of [...sets.values()].entries()) t.strictSame((await trainer.evaluate([batch(0, 4), batch(4, 8)], i)).result(), set.result());
  t.not(sets.get('click')!.samples, sets.get('buy')!.samples);
  trainer.dispose();
});

await t.test('parity is reported check by check', async (t) => {
  for (const precision of ['fp32', 'bf16'] as const) {
    const trainer = trainerOf({ precision, ema: 0.5 });
    await trainer.train(batch(0, 8));
    const path = directory(t);
    await trainer.save(path, {});
    using ranker = await Ranker.open(path, { runtime });
    for (const report of [await trainer.verifyParity(encoded), await ranker.verifyParity(encoded)]) {
      t.ok(report.equal, JSON.stringify(report));
      t.equal(report.checks.length, 4);
      t.ok(report.checks.every((c) => c.numbers >= 2 * 14 && c.different === 0 && c.largestDifference === 0));
    }
    trainer.dispose();
  }
});
