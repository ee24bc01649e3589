// Explanations on an emulated GPU: what the kernels of attention_probabilities give, as the CPU gives it, in every precision.
import t from 'tap';
import './emulated_gpu.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { State } from '../lib/native/plan.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { Explainer, type Explanation } from '../lib/rank/explainer.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { encodeRequest } from '../lib/schema/encode.ts';
import { RankService } from '../lib/serve/rank_service.ts';
import { models, requests, richSchema, sameBits, scramble, tiny, variants } from './helpers.ts';
import { NaiveLonger } from './naive_longer.ts';

t.setTimeout(900_000); // the addon with the emulated GPU is built here
const cpu = new Runtime({ threads: 2 });
const device = new Runtime({ threads: 1, device: 'emulated' });
t.teardown(() => { cpu.dispose(); device.dispose(); });

const all = 1000;
const encoded = requests([5, 0, 24, 1, 30], [2, 1, 3, 0], 5);

/** By request, candidate and event; what no event has comes last. */
function masses(given: readonly (readonly Explanation[])[]): number[] {
  return given.flatMap((list, i) => list.flatMap(({ events, mass, rest }) => {
    const by = new Array<number>(encoded[i]!.events + 1).fill(0);
    events.forEach((e, j) => { by[e] = mass[j]!; });
    by[encoded[i]!.events] = rest ?? 0;
    return by;
  }));
}
const apart = (a: readonly number[], b: readonly number[]): number => a.reduce((m, x, i) => Math.max(m, Math.abs(x - b[i]!)), a.length === b.length ? 0 : Infinity);

await t.test('the mass of every event is that of attention rollout written down in double', async (t) => {
  for (const name of ['paper, uid and cls', 'anchored', 'merge 1', 'three inner blocks', 'learnable', 'banded, all queries, flat head', 'own candidate encoder']) {
    const config = variants[name]!;
    const model = new ModelDescription(richSchema, config);
    using state = new State(model.layout.stores(), device);
    const naive = new NaiveLonger(richSchema, config, scramble(model, state));
    using ranker = new Ranker(model, state, device);
    const found = masses(await ranker.explain(encoded, all));
    const want = encoded.flatMap((r) => Array.from({ length: r.candidates }, (_, c) => naive.rollout(r, c)).flatMap((e) => [...e.events, e.rest]));
    t.ok(found.length > 50 && apart(want, found) < 2e-6, `${name}: ${apart(want, found)}`);
  }
});

/** Most that a mass may differ from that of the CPU in fp32; weights of DIN's unit are numbers of its precision. */
const bounds = { fp32: 2e-6, tf32: 1e-3, fp16: 1e-3, bf16: 1e-2 } as const;

await t.test('explanations are near those of the CPU, of the bits that scoring gives, and scoring stays as it is', async (t) => {
  for (const name of ['paper, uid and cls', 'banded', 'transformer', 'din']) {
    const model = new ModelDescription(richSchema, models[name]!);
    using here = new State(model.layout.stores());
    using there = new State(model.layout.stores(), device);
    for (const state of [here, there]) model.initialise(state, 3);
    using exact = new Ranker(model, here, cpu);
    const want = masses(await exact.explain(encoded, all));
    for (const [precision, bound] of Object.entries(bounds) as [keyof typeof bounds, number][]) {
      using ranker = new Ranker(model, there, device, { precision });
      using explainer = new Explainer(model, there, device, precision, 'dense');
      const scores = await ranker.score(await ranker.prefill(encoded));
      const found = masses(await ranker.explain(encoded, all));
      t.ok(apart(want, found) < bound && (precision === 'fp32' || apart(want, found) > 0), `${name}, ${precision}: ${apart(want, found)}`);
      t.same(masses(await ranker.explain(encoded, all)), found, `${name}, ${precision}: twice the same bits`);
      const logits = [];
      for (const r of encoded) logits.push(...(await explainer.explain(r, 3)).logits);
      t.ok(sameBits(Float32Array.from(logits), scores) && sameBits(await ranker.score(await ranker.prefill(encoded)), scores), `${name}, ${precision}: logits`);
    }
  }
  const model = new ModelDescription(richSchema, models['base']!);
  using state = new State(model.layout.stores(), device);
  using ranker = new Ranker(model, state, device);
  await t.rejects(ranker.explain(encoded, 3), { code: 'ERR_CONFIG', message: /does not weigh events/ });
});

await t.test('a service on the device explains as its ranker does', async (t) => {
  const model = new ModelDescription(richSchema, tiny);
  using state = new State(model.layout.stores(), device);
  model.initialise(state, 4);
  using ranker = new Ranker(model, state, device);
  await using service = new RankService(new Ranker(model, state, device), 'a', { timeout: 600_000, cacheBytes: 40_000 });
  const history = Array.from({ length: 12 }, (_, i) => ({ item: i + 1, action: i % 3, dwell: 5 * i, time: 1000 + 10 * i }));
  const request = { user: { user_id: 'u', age: 3, likes: [4] }, context: { hour: 1 }, time: 2000, history, candidates: [{ item: 3, price: 1 }, { item: 9, price: 2 }, { item: 4, price: 0.5 }] };
  const { index, explanations } = await service.rank({ ...request, explain: 3, topK: 2 });
  const [want] = await ranker.explain([encodeRequest(richSchema, request)], 3);
  t.same(explanations, [...index].map((place) => want![place]));
  t.equal(explanations!.length, 2);
});
