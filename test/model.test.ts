import t from 'tap';
import { fullPlan, ModelDescription } from '../lib/model/model.ts';
import { State } from '../lib/native/plan.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { trainDefaults } from '../lib/train/options.ts';
import type { StepOptions } from '../lib/train/step.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { batchOf, compiledStep, models, requests, richSchema, runStep, still, tiny } from './helpers.ts';

const lengths = [5, 0, 24, 1, 30, 8];
const candidates = [2, 1, 3, 0];

const runtime = new Runtime({ threads: 2 });
t.teardown(() => { runtime.dispose(); });

await t.test('gradients of the whole model equal finite differences in double', async (t) => {
  for (const [name, config] of Object.entries(models)) {
    const model = new ModelDescription(richSchema, config);
    const batch = batchOf(requests(lengths, candidates, 3), config);
    const c = compiledStep(model, runtime, 'reference');
    await runStep(c, model, batch, 'reference');
    let worst = 0;
    for (const [parameter, { offset, shape }] of model.layout.dense) {
      const n = shape.reduce((a, b) => a * b, 1);
      const grads = c.state.read('dense.grad', offset, new Float64Array(n));
      const values = c.state.read('dense', offset, new Float64Array(n));
      // A direction through the whole parameter: every element counts.
      const direction = values.map((_, i) => Math.sin(1 + 3 * i));
      const eps = 1e-5;
      const at = async (sign: number): Promise<number> => {
        c.state.write('dense', offset, values.map((v, i) => v + sign * eps * direction[i]!));
        return (await runStep(c, model, batch, 'reference')).loss;
      };
      const numeric = ((await at(1)) - (await at(-1))) / (2 * eps);
      c.state.write('dense', offset, values);
      const exact = grads.reduce((s, g, i) => s + g * direction[i]!, 0);
      const error = Math.abs(numeric - exact) / Math.max(1e-3, Math.abs(exact));
      if (error > worst) worst = error;
      if (error > 1e-4) t.fail(`${name}: ${parameter}: ${exact} against ${numeric}`);
    }
    t.ok(worst < 1e-4, `${name}: ${worst}`);
    c.plan.dispose();
    c.state.dispose();
  }
});

await t.test('the cpu agrees with the reference, forward and gradient', async (t) => {
  for (const [name, config] of Object.entries(models)) {
    const model = new ModelDescription(richSchema, config);
    const batch = batchOf(requests(lengths, candidates, 4), config);
    const [a, b] = [compiledStep(model, runtime, 'cpu'), compiledStep(model, runtime, 'reference')];
    const [ra, rb] = [await runStep(a, model, batch, 'cpu'), await runStep(b, model, batch, 'reference')];
    t.ok(ra.logits.every((x, i) => Math.abs(x - rb.logits[i]!) < 2e-5), `${name}: logits`);
    const ga = a.state.read('dense.grad', 0, new Float32Array(model.layout.denseSize));
    const gb = b.state.read('dense.grad', 0, new Float64Array(model.layout.denseSize));
    const scale = gb.reduce((m, x) => Math.max(m, Math.abs(x)), 0);
    t.ok(ga.every((x, i) => Math.abs(x - gb[i]!) < 2e-5 * Math.max(1, scale)), `${name}: gradients`);
    for (const c of [a, b]) {
      c.plan.dispose();
      c.state.dispose();
    }
  }
});

await t.test('full = prefill + score, alone = in a batch, 1 thread = 3 threads: the same bits in every precision', async (t) => {
  const three = new Runtime({ threads: 3 });
  const one = new Runtime({ threads: 1 });
  for (const [name, config] of Object.entries(models))
    for (const precision of ['fp32', 'bf16', { mode: 'bf16', full: config.kind === 'longer' ? ['head', 'layer0'] : ['head'] }] as const) {
      const label = `${name}, ${JSON.stringify(precision)}`;
      const model = new ModelDescription(richSchema, config);
      const state = new State(model.layout.stores());
      model.initialise(state, 5);
      const encoded = requests(lengths, candidates, 6);
      const logitsOf = async (rt: Runtime, subset = encoded): Promise<Float32Array> => {
        const plan = fullPlan(model, state, rt, precision);
        const batch = batchOf(subset, config);
        const { sizes, arrays } = model.inputs(batch);
        const logits = new Float32Array(batch.candidates * 2);
        await plan.run(sizes, arrays, new Map([['logits', logits]]));
        plan.dispose();
        return logits;
      };
      const full = await logitsOf(three);
      t.same(await logitsOf(one), full, `${label}: threads`);
      const ranker = new Ranker(model, state, three, { precision });
      const cached = await ranker.score(await ranker.prefill(encoded));
      t.same(cached, full, `${label}: prefill + score`);
      let at = 0;
      for (const [i, e] of encoded.entries()) {
        const n = e.candidates * 2;
        t.same(await logitsOf(three, [e]), full.slice(at, at + n), `${label}: request ${i} alone`);
        at += n;
      }
      ranker.dispose();
      state.dispose();
    }
  three.dispose();
  one.dispose();
});

await t.test('recompute changes no bit and shrinks the arena', async (t) => {
  const model = new ModelDescription(richSchema, { ...tiny, maxHistory: 200, queries: { kind: 'recent', k: 100 }, width: 16, selfLayers: 2 });
  const batch = batchOf(requests([200, 150, 100], [4], 8), 200);
  const plain = compiledStep(model, runtime, 'cpu');
  const want = await runStep(plain, model, batch, 'cpu');
  const grads = plain.state.read('dense.grad', 0, new Float32Array(model.layout.denseSize));
  const { sizes } = model.inputs(batch);
  const before = plain.plan.memory(sizes).arena;
  for (const policy of ['selective', 'block'] as const) {
    const c = compiledStep(model, runtime, 'cpu', { ...still, recompute: policy });
    t.same(await runStep(c, model, batch, 'cpu'), want, policy);
    t.same(c.state.read('dense.grad', 0, new Float32Array(model.layout.denseSize)), grads, `${policy}: gradients`);
    t.ok(c.plan.memory(sizes).arena < before, `${policy}: ${c.plan.memory(sizes).arena} of ${before}`);
  }
  plain.plan.dispose();
});

await t.test('a memory budget chooses what to drop', async (t) => {
  const model = new ModelDescription(richSchema, { ...tiny, maxHistory: 200, queries: { kind: 'recent', k: 50 } });
  const arena = (recompute: StepOptions['recompute'], maxCandidates = 1): number => {
    const sizes = model.sizesOf(1, 200, maxCandidates);
    const trainer = new Trainer(model, { ...trainDefaults, recompute, batch: { maxEvents: 200, maxRequests: 1, maxCandidates } }, runtime);
    const bytes = trainer.plan.memory(sizes).arena;
    trainer.dispose();
    return bytes;
  };
  const [most, least] = [arena('none'), arena('block')];
  const budget = Math.round((most + least) / 2);
  const chosen = arena({ budget });
  t.ok(chosen <= budget && chosen > 0, `${chosen} within ${budget} of ${most}`);
  const candidates = 64;
  const wide = Math.round((arena('none', candidates) + arena('block', candidates)) / 2);
  const held = arena({ budget: wide }, candidates);
  t.ok(held <= wide && held > 0, `${candidates} candidates: ${held} within ${wide}`);
});

await t.test('training lowers the loss', async (t) => {
  const model = new ModelDescription(richSchema, tiny);
  const trainer = new Trainer(model, { ...trainDefaults, schedule: { warmup: 5, kind: 'constant', floor: 1 } }, runtime);
  const batch = batchOf(requests([10, 20, 24, 7], [4], 9), tiny.maxHistory);
  const losses: number[] = [];
  for (let i = 0; i < 60; ++i) losses.push((await trainer.train(batch)).loss);
  t.ok(losses.at(-1)! < 0.5 * losses[0]!, `${losses[0]} -> ${losses.at(-1)}`);
  trainer.dispose();
});
