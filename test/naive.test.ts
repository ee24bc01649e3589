import t from 'tap';
import { fullPlan, ModelDescription } from '../lib/model/model.ts';
import { State } from '../lib/native/plan.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { batchOf, requests, richSchema, scramble, variants } from './helpers.ts';
import { NaiveLonger } from './naive_longer.ts';

const runtime = new Runtime({ threads: 2 });
t.teardown(() => { runtime.dispose(); });

await t.test('the batched model in double equals the paper written down for one user and one candidate', async (t) => {
  for (const [name, config] of Object.entries(variants)) {
    const model = new ModelDescription(richSchema, config);
    const state = new State(model.layout.stores(), 'reference');
    const naive = new NaiveLonger(richSchema, config, scramble(model, state));
    const encoded = requests([5, 0, 24, 1, 30, 8, 2], [2, 1, 3, 0], 5);
    const batch = batchOf(encoded, config);
    const plan = fullPlan(model, state, runtime);
    const { sizes, arrays } = model.inputs(batch);
    const logits = new Float64Array(batch.candidates * 2);
    await plan.run(sizes, arrays, new Map([['logits', logits]]));
    const wanted = encoded.flatMap((r) => Array.from({ length: r.candidates }, (_, c) => naive.logits(r, c)).flat());
    const worst = Math.max(...wanted.map((w, i) => Math.abs(w - logits[i]!) / Math.max(1, Math.abs(w))));
    t.ok(wanted.length === logits.length && worst < 1e-12, `${name}: ${worst}`);
    plan.dispose();
    state.dispose();
  }
});
