import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { packBatch } from '../lib/data/batch.ts';
import { makeWorld, worldDefaults, worldSchema } from '../lib/data/world.ts';
import { checkPrecision, type Precision } from '../lib/graph/passes/precision.ts';
import { devices } from '../lib/index.ts';
import { longerDefaults } from '../lib/model/config.ts';
import { fullPlan, ModelDescription } from '../lib/model/model.ts';
import { State } from '../lib/native/plan.ts';
import { Runtime } from '../lib/native/runtime.ts';
import type { HostBackend } from '../lib/native/types.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { encodeRequest } from '../lib/schema/encode.ts';
import { fit } from '../lib/train/fit.ts';
import { trainDefaults } from '../lib/train/options.ts';
import { trainStep } from '../lib/train/step.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { batchOf, compiledStep, models, requests, richSchema, runStep, still, tiny } from './helpers.ts';

const runtime = new Runtime({ threads: 2 });
t.teardown(() => { runtime.dispose(); });
const lengths = [5, 0, 24, 1, 30, 8];
const candidates = [2, 1, 3, 0];

await t.test('what stays full, stays full', (t) => {
  for (const [precision, narrow] of [['bf16', 'bf16'], ['fp16', 'f16']] as const)
    for (const [name, config] of Object.entries(models)) {
      const { graph } = trainStep(new ModelDescription(richSchema, config), { ...still, precision });
      const casts = graph.nodes.filter((n) => n.op.name === 'cast');
      t.strictSame(casts.map((n) => n.name), ['head.linear.linear_dw.cast'], `${name}: the gradient of the logits is cast, nothing else`);
      const types = (list: readonly ({ readonly dtype: string } | null)[]): string[] => list.flatMap((v) => (v ? [v.dtype] : []));
      t.ok(graph.nodes.some((n) => types(n.outputs).includes(narrow)) && !graph.nodes.some((n) => types(n.outputs).includes(narrow === 'f16' ? 'bf16' : 'f16')), `${name}: ${narrow}`);
      for (const n of graph.nodes) {
        if (/attention/.test(n.op.name)) t.notOk(types([n.inputs[0]!, n.inputs[1]!, n.inputs[2]!, n.outputs[0]!]).includes('f32'), n.name);
        if (['bce', 'bce_dx', 'adamw', 'rowwise_adagrad', 'sum_squares', 'clip_scale', 'update_loss_scale'].includes(n.op.name)) t.notOk(types([...n.inputs, ...n.outputs]).includes(narrow), n.name);
        if (n.op.name === 'linear_dw' || n.op.name === 'sparse_grad') t.notOk(types(n.outputs).includes(narrow), n.name);
      }
      const kept = graph.nodes.flatMap((n) => n.outputs).filter((v) => v?.kind === 'temporary' && v.dtype === 'f32');
      t.ok(kept.length > 0 && graph.outputs.get('logits')!.dtype === 'f32' && graph.outputs.get('loss')!.dtype === 'f32', name);
      t.equal(graph.outputs.get('loss_scale')?.dtype, precision === 'fp16' ? 'f32' : undefined);
    }
  t.end();
});

await t.test('parts of a model can stay in fp32; unknown parts and modes are refused', (t) => {
  const model = new ModelDescription(richSchema, tiny);
  const { graph } = model.full();
  const policy: Precision = { mode: 'bf16', full: ['head', 'layer0.qkv'] };
  checkPrecision(policy, graph, 'precision', 'cpu');
  const typed = model.forward(policy);
  for (const n of typed.nodes) {
    const inside = /(^|\.)(head|layer0\.qkv)\./.test(n.name);
    const floats = n.outputs.filter((v) => v?.dtype === 'f32' || v?.dtype === 'bf16');
    if (n.op.name === 'cast' || n.op.name.includes('attention')) continue;
    if (n.op.name === 'linear' && inside) t.equal(n.inputs[0]!.dtype, 'f32', `${n.name} multiplies in f32`);
    for (const v of floats) if (v !== n.outputs[1] && v !== n.outputs[2]) t.equal(v!.dtype, inside ? 'f32' : 'bf16', n.name);
  }
  t.strictSame(model.cacheIn(policy).map((e) => [e.name, e.dtype]), [['k0', 'f32'], ['v0', 'f32'], ['k1', 'bf16'], ['v1', 'bf16'], ['request', 'f32'], ['user', 'bf16']]);
  for (const mode of ['fp16', 'tf32', { mode: 'fp16', full: [] }])
    t.throws(() => { checkPrecision(mode, graph, 'precision', 'cpu'); }, { code: 'ERR_CONFIG', place: 'precision', message: /runs on CUDA, the CPU computes in fp32 and bf16/, remedy: /Use .*fp32 on the CPU/ });
  checkPrecision({ mode: 'fp16', full: ['head'] }, graph, 'precision', 'cuda');
  t.throws(() => { checkPrecision({ mode: 'tf32', full: [] }, graph, 'precision', 'cuda'); }, { code: 'ERR_CONFIG' });
  t.throws(() => { checkPrecision('half', graph, 'precision', 'cpu'); }, { code: 'ERR_CONFIG' });
  t.throws(() => { checkPrecision({ mode: 'bf16', full: ['heads'] }, graph, 'precision', 'cpu'); }, { code: 'ERR_CONFIG', message: /did you mean 'head'/ });
  t.throws(() => { checkPrecision({ mode: 'bf16' }, graph, 'precision', 'cpu'); }, { code: 'ERR_CONFIG' });
  t.throws(() => new Ranker(model, new State(model.layout.stores()), runtime, { precision: 'fp16' }), { code: 'ERR_CONFIG', message: /runs on CUDA/ });
  t.throws(() => new Trainer(model, { ...trainDefaults, precision: 'fp16' }, runtime), { code: 'ERR_CONFIG', place: 'train.precision', remedy: /bf16 or fp32/ });
  t.throws(() => fullPlan(model, new State(model.layout.stores()), runtime, 'fp16'), { code: 'ERR_DEVICE', message: /fp16 runs on CUDA; use bf16 or fp32 on the CPU/ });
  t.throws(() => fullPlan(model, new State(model.layout.stores()), runtime, 'tf32'), { code: 'ERR_DEVICE', message: /tf32 runs on CUDA; use fp32 on the CPU/ });
  t.end();
});

/** Root of the sum of squares of the differences. */
const distance = (a: ArrayLike<number>, b: ArrayLike<number>): number => Math.hypot(...Array.from(a, (x, i) => x - b[i]!));

/** Every weight matrix rounded to bf16, as the kernels round it. */
function roundMatrices(model: ModelDescription, state: State): void {
  for (const { offset, shape } of model.layout.dense.values()) {
    if (shape.length !== 2) continue;
    const values = state.read('dense', offset, new Float32Array(shape[0]! * shape[1]!));
    const bits = new Uint32Array(values.buffer);
    bits.forEach((b, i) => { bits[i] = (b + 0x7fff + ((b >>> 16) & 1)) & 0xffff0000; });
    state.write('dense', offset, values);
  }
}

interface Evaluated {
  readonly logits: ArrayLike<number>;
  readonly gradients: Float64Array;
}

async function evaluate(model: ModelDescription, precision: Precision, backend: HostBackend, seed: number, rounded = false): Promise<Evaluated> {
  const c = compiledStep(model, runtime, backend, { ...still, precision });
  if (rounded) roundMatrices(model, c.state);
  const { logits } = await runStep(c, model, batchOf(requests(lengths, candidates, seed), model.config), backend);
  const gradients = c.state.read('dense.grad', 0, new Float64Array(model.layout.denseSize));
  c.plan.dispose();
  c.state.dispose();
  return { logits, gradients };
}

// The yardstick is the best that bf16 can do: the reference backend computes in double and rounds once what the graph declares
// as bf16, and weight matrices as kernels do.
await t.test('bf16 on the cpu errs at most 2x (logits) and 3x (gradients) as much as double arithmetic over bf16 values', async (t) => {
  for (const [name, config] of Object.entries(models)) {
    const model = new ModelDescription(richSchema, config);
    const sums = { logits: [0, 0], gradients: [0, 0] };
    for (const seed of [3, 4, 5]) {
      const exact = await evaluate(model, 'fp32', 'reference', seed);
      const best = await evaluate(model, 'bf16', 'reference', seed, true);
      const cpu = await evaluate(model, 'bf16', 'cpu', seed);
      for (const what of ['logits', 'gradients'] as const) {
        sums[what][0]! += distance(cpu[what], exact[what]) ** 2;
        sums[what][1]! += distance(best[what], exact[what]) ** 2;
      }
    }
    const ratio = (what: 'logits' | 'gradients'): number => Math.sqrt(sums[what][0]! / sums[what][1]!);
    t.ok(sums.logits[1]! > 0 && ratio('logits') <= 2, `${name}: logits ${ratio('logits').toFixed(2)}x of ${Math.sqrt(sums.logits[1]!).toExponential(1)}`);
    t.ok(sums.gradients[1]! > 0 && ratio('gradients') <= 3, `${name}: gradients ${ratio('gradients').toFixed(2)}x of ${Math.sqrt(sums.gradients[1]!).toExponential(1)}`);
  }
});

await t.test('the cache is half as large, and says so', async (t) => {
  const model = new ModelDescription(richSchema, tiny);
  const state = new State(model.layout.stores());
  model.initialise(state, 5);
  using ranker = new Ranker(model, state, runtime, { precision: 'bf16' });
  const { arrays } = await ranker.prefill(requests(lengths, candidates, 3));
  t.ok([...arrays.values()].every((a) => a.dtype === 'bf16' && a.read() instanceof Uint16Array));
  t.equal(model.cost(24, 'bf16').kvBytesPerUser * 2, model.cost(24).kvBytesPerUser);
  state.dispose();
});

await t.test('training in bf16 learns the made world as fp32 does', async (t) => {
  const world = { ...worldDefaults, requests: 700, historyLength: 60, candidates: 8 };
  const schema = worldSchema(world);
  const samples = [...makeWorld(world)].map((s) => encodeRequest(schema, s.request));
  const [train, test] = [samples.slice(0, 500), samples.slice(500)];
  const config = { ...longerDefaults, maxHistory: 60, width: 16, merge: 2, heads: 2, queries: { kind: 'recent', k: 16 }, head: { kind: 'pooled', hidden: [32] } } as const;
  const learned: { first: number; last: number; auc: number }[] = [];
  for (const precision of ['fp32', 'bf16'] as const) {
    const model = new ModelDescription(schema, config);
    using trainer = new Trainer(model, { ...trainDefaults, precision, epochs: 4, batch: { maxEvents: 2000, maxRequests: 32, maxCandidates: 1000 }, schedule: { warmup: 5, kind: 'constant', floor: 1 } }, runtime);
    const losses: number[] = [];
    await fit(trainer, train, undefined, { onStep: (report) => { losses.push(report.loss); } });
    const mean = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0) / list.length;
    const metrics = await trainer.evaluate([packBatch(schema, test, config)]);
    learned.push({ first: mean(losses.slice(0, 8)), last: mean(losses.slice(-8)), auc: metrics.result().values.auc! });
  }
  const [full, half] = learned as [(typeof learned)[0], (typeof learned)[0]];
  t.ok(full.last < full.first - 0.02, `fp32 learns: ${JSON.stringify(full)}`);
  t.ok(Math.abs(half.last - full.last) < 0.01, `the loss ends where it ends in fp32: ${JSON.stringify(half)}`);
  t.ok(Math.abs(half.auc - full.auc) < 0.02, `and so does the AUC of 1,600 candidates: ${half.auc} and ${full.auc}`);
});

if (process.env['LONGER_ISA'] === undefined)
  await t.test('all of this on every instruction set', async (t) => {
    t.setTimeout(900_000);
    const { cpu } = devices();
    for (const isa of ['generic', ...(cpu.avx2 ? ['avx2'] : []), ...(cpu.avx512 ? ['avx512'] : [])]) {
      const child = spawn(process.execPath, [...process.execArgv, fileURLToPath(import.meta.url)], { env: { ...process.env, LONGER_ISA: isa, TAP: '1' }, stdio: ['ignore', 'pipe', 'inherit'] });
      let output = '';
      child.stdout.on('data', (data: Buffer) => { output += String(data); });
      const [code] = (await once(child, 'close')) as [number];
      t.equal(code, 0, `${isa}: ${output.split('\n').filter((line) => line.includes('not ok')).join('; ')}`);
    }
  });
