import t from 'tap';
import { historyForm, type LongerConfig, longerDefaults, type ModelConfig, presets } from '../lib/model/config.ts';
import { packBatch } from '../lib/data/batch.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { State } from '../lib/native/plan.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { Explainer, type Explanation } from '../lib/rank/explainer.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { encodeRequest, type EncodedRequest } from '../lib/schema/encode.ts';
import { id } from '../lib/schema/features.ts';
import { defineSchema } from '../lib/schema/schema.ts';
import { trainDefaults } from '../lib/train/options.ts';
import { areaUnderCurve, sortedOrder } from '../lib/train/metrics.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { models, random, requests, richSchema, sameBits, scramble, tiny, variants } from './helpers.ts';
import { NaiveLonger } from './naive_longer.ts';

const runtime = new Runtime({ threads: 2 });
t.teardown(() => { runtime.dispose(); });

const all = 1000;
const lengths = [5, 0, 24, 1, 30, 8, 2, 23];
const sum = (list: ArrayLike<number>): number => Array.from(list).reduce((a, b) => a + b, 0);
/** By event, as the caller counts them. */
function byEvent({ events, mass }: Explanation, count: number): number[] {
  const list = new Array<number>(count).fill(0);
  events.forEach((e, i) => { list[e] = mass[i]!; });
  return list;
}

await t.test('the mass of every event is that of attention rollout written down in double, for every option', async (t) => {
  for (const [name, config] of Object.entries(variants)) {
    const model = new ModelDescription(richSchema, config);
    using state = new State(model.layout.stores());
    const naive = new NaiveLonger(richSchema, config, scramble(model, state));
    using ranker = new Ranker(model, state, runtime);
    const encoded = requests(lengths, [2, 1, 3, 0], 5);
    const given = await ranker.explain(encoded, all);
    let worst = 0;
    let least = 0;
    let compared = 0;
    encoded.forEach((r, i) => {
      t.equal(given[i]!.length, r.candidates);
      given[i]!.forEach((explanation, c) => {
        const want = naive.rollout(r, c);
        const mass = byEvent(explanation, r.events);
        want.events.forEach((x, e) => { worst = Math.max(worst, Math.abs(x - mass[e]!)); });
        worst = Math.max(worst, Math.abs(want.rest - explanation.rest!), Math.abs(1 - explanation.rest! - sum(mass)));
        least = Math.min(least, explanation.rest!, ...mass);
        compared += mass.length;
        t.ok([...explanation.mass].every((x, j) => j === 0 || x <= explanation.mass[j - 1]!), 'in order of mass');
      });
    });
    t.ok(worst < 2e-6 && least >= 0 && compared > 50, `${name}: ${worst}, least ${least}`);
  }
});

await t.test('an explanation is of the bits that scoring gives, and scoring stays as it is', async (t) => {
  for (const [name, config] of Object.entries(models)) for (const precision of ['fp32', 'bf16'] as const) {
    if (config.kind !== 'longer' && config.kind !== 'din') continue;
    const model = new ModelDescription(richSchema, config);
    using state = new State(model.layout.stores());
    model.initialise(state, 3);
    using ranker = new Ranker(model, state, runtime, { precision });
    using explainer = new Explainer(model, state, runtime, precision, 'dense');
    const encoded = requests(lengths, [3, 1, 4], 9);
    const before = await ranker.score(await ranker.prefill(encoded));
    const told = [];
    for (const r of encoded) told.push(...(await explainer.explain(r, 5)).logits);
    t.ok(sameBits(Float32Array.from(told), before), `${name}, ${precision}`);
    const explanations = await ranker.explain(encoded, 5);
    t.ok(sameBits(await ranker.score(await ranker.prefill(encoded)), before), `${name}, ${precision}: afterwards`);
    explanations.forEach((list, i) => {
      const { events } = encoded[i]!;
      const kept = Math.min(events, config.maxHistory);
      for (const x of list) {
        t.ok(x.events.length <= Math.min(5, kept) && x.events.every((e) => e >= events - kept && e < events), `${name}: places in the caller's history`);
        if (x.rest !== null) t.ok(x.mass.every((m) => m >= 0) && x.rest >= 0 && sum(x.mass) + x.rest < 1 + 1e-5, name);
      }
    });
  }
});

/** A click is a candidate that stands somewhere in the history: one event decides. */
const planted = defineSchema({ tables: { item: { size: 60, width: 8 } }, event: { item: id('item') }, candidate: { item: id('item') }, labels: { click: {} }, time: false });

function world(count: number, seed: number): { request: EncodedRequest; decides: number[] }[] {
  const next = random(seed);
  const int = (n: number): number => Math.floor(next() * n);
  return Array.from({ length: count }, () => {
    const items = Array.from({ length: 60 }, (_, i) => i);
    for (let i = 0; i < 60; ++i) {
      const j = i + int(60 - i);
      [items[i], items[j]] = [items[j]!, items[i]!];
    }
    const decides = Array.from({ length: 8 }, () => (int(2) === 0 ? -1 : int(12)));
    return {
      request: encodeRequest(planted, {
        history: items.slice(0, 12).map((item) => ({ item })), candidates: decides.map((e, c) => ({ item: items[e < 0 ? 12 + c : e]! })), labels: { click: decides.map((e) => (e < 0 ? 0 : 1)) },
      }),
      decides,
    };
  });
}

await t.test('where one event decides, it has the most mass', async (t) => {
  const small = { maxHistory: 12, width: 16, head: { kind: 'pooled', hidden: [16] } } as const;
  const longer: LongerConfig = { ...longerDefaults, ...small, merge: 1, heads: 2, inner: { blocks: 0, heads: 1 }, queries: { kind: 'recent', k: 6 }, selfLayers: 1 };
  const subjects: Readonly<Record<string, { config: ModelConfig; events: number }>> = {
    LONGER: { config: longer, events: 1 },
    'LONGER, anchored': { config: { ...longer, visibility: 'anchored' }, events: 1 },
    'LONGER, merge 2': { config: { ...longer, width: 8, merge: 2 }, events: 2 },
    DIN: { config: { ...presets.din(), ...small, unit: [16] }, events: 1 },
  };
  const [train, test] = [world(9600, 1), world(100, 2)];
  for (const [name, { config, events }] of Object.entries(subjects)) {
    const model = new ModelDescription(planted, config);
    using trainer = new Trainer(model, { ...trainDefaults, schedule: { kind: 'constant', warmup: 0, floor: 1 }, dense: { ...trainDefaults.dense, learningRate: 3e-3 } }, runtime);
    for (let i = 0; i < train.length; i += 32) await trainer.train(packBatch(planted, train.slice(i, i + 32).map((s) => s.request), historyForm(config)));
    using ranker = new Ranker(model, trainer.state, runtime, { denseStore: trainer.denseStore });
    const explanations = await ranker.explain(test.map((s) => s.request), events);
    const clicked = test.flatMap(({ decides }, r) => decides.flatMap((event, c) => (event < 0 ? [] : [{ event, told: explanations[r]![c]! }])));
    const right = clicked.filter(({ event, told }) => told.events.includes(event)).length / clicked.length;
    const scores = await ranker.score(await ranker.prefill(test.map((s) => s.request)));
    const labels = Uint8Array.from(test.flatMap((s) => s.decides.map((e) => (e < 0 ? 0 : 1))));
    const auc = areaUnderCurve(scores, labels, sortedOrder(scores));
    t.ok(auc > 0.99 && right > 0.9, `${name}: AUC ${auc}, the event that decides is told of ${right}`);
  }
});

await t.test('what cannot be explained, and what is no number of events', async (t) => {
  for (const name of ['base', 'sum pooling']) {
    const model = new ModelDescription(richSchema, models[name]!);
    using state = new State(model.layout.stores());
    using ranker = new Ranker(model, state, runtime);
    await t.rejects(ranker.explain(requests([3], [1]), 3), { code: 'ERR_CONFIG', message: /does not weigh events/ });
  }
  const model = new ModelDescription(richSchema, tiny);
  using state = new State(model.layout.stores());
  using ranker = new Ranker(model, state, runtime);
  for (const top of [0, 1.5, NaN]) await t.rejects(ranker.explain(requests([3], [1]), top), { code: 'ERR_DATA', place: 'explain' });
});
