// Whole models on a device: logits and gradients of one training step in bf16, whose errors against double may be 2 and 3 times those of bf16
// on the CPU, in f32, as near as the CPU's, and in fp16 and tf32, which have bits enough to be no further off than bf16 on the CPU. `node scripts/gpu/models.mjs cuda:0 P` (S, P or X).
import { benchBatch, benchPresets, benchSchema } from '../../dist/bench/presets.js';
import { ModelDescription } from '../../dist/model/model.js';
import { Runtime } from '../../dist/native/runtime.js';
import { trainDefaults } from '../../dist/train/options.js';
import { Trainer } from '../../dist/train/trainer.js';

const device = process.argv[2] ?? 'cuda:0';
const preset = process.argv[3] ?? 'P';
const cpu = new Runtime();
const gpu = new Runtime({ device });
const lengths = { S: [256, 100, 7, 0], P: [2000, 1500, 30, 1], X: [10_000, 3000] }[preset];
if (!lengths) throw new Error(`models: '${preset}' is none of the presets S, P, X`);
// On the emulated device the preset's form, with histories that fit its memory.
const small = device === 'emulated' ? { maxHistory: 24, width: 8, heads: 2, merge: 4, queries: { kind: 'recent', k: 4 } } : {};

/** Logits and dense gradients of one step. */
async function stepOf(model, batch, precision, runtime, home) {
  const trainer = new Trainer(model, { ...trainDefaults, precision, gradScaler: { initScale: 1024, growthInterval: 2000 }, schedule: { warmup: 0, kind: 'constant', floor: 1 } }, runtime, home);
  const logits = Float64Array.from(await trainer.predict(batch));
  const { lossScale } = await trainer.train(batch);
  const gradient = trainer.state.read('dense.grad', 0, new Float64Array(model.layout.denseSize)).map((g) => g / (lossScale ?? 1));
  trainer.dispose();
  return { logits, gradient };
}

/** The largest difference, relative to the largest number. */
function apart(found, want) {
  let [most, worst] = [1e-6, 0];
  for (let i = 0; i < want.length; ++i) {
    most = Math.max(most, Math.abs(want[i]));
    const off = Math.abs(found[i] - want[i]);
    if (!(off <= worst)) worst = off;
  }
  return worst / most;
}

let failed = 0;
const model = new ModelDescription(benchSchema, { ...benchPresets[preset].model, ...small });
const batch = benchBatch({ model: model.config }, device === 'emulated' ? [24, 5] : lengths, 2);
const exact = await stepOf(model, batch, 'fp32', cpu, 'reference');
const near = { bf16: await stepOf(model, batch, 'bf16', cpu), fp32: await stepOf(model, batch, 'fp32', cpu) };
const checks = [ // precision, the CPU's beside it, how many times that error logits and gradients may be off, and how much more
  ['bf16', 'bf16', 2, 3, 0], ['fp32', 'fp32', 2, 3, 5e-6], ['fp16', 'bf16', 1, 1, 0], ['tf32', 'bf16', 1, 1, 0],
];
for (const [precision, beside, logits, gradient, more] of checks) {
  const found = await stepOf(model, batch, precision, gpu);
  for (const [what, factor] of [['logits', logits], ['gradient', gradient]]) {
    const [ours, allowed] = [apart(found[what], exact[what]), factor * apart(near[beside][what], exact[what]) + more];
    if (!(ours <= allowed)) failed++;
    console.log(`${ours <= allowed ? 'ok' : 'NOT OK'} ${preset} ${precision} ${what}: ${ours.toExponential(2)}, allowed ${allowed.toExponential(2)}`);
  }
}
console.log(`model ${preset}: ${failed} of ${2 * checks.length} too far off`);
process.exit(failed ? 1 : 0);
