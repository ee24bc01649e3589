import t from 'tap';
import { packBatch } from '../lib/data/batch.ts';
import { lower } from '../lib/graph/lower.ts';
import { noTiling, type Tiling } from '../lib/graph/passes/tile.ts';
import { type ModelConfig, presets } from '../lib/model/config.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { Plan, State } from '../lib/native/plan.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { trainStep } from '../lib/train/step.ts';
import { encodeRequest } from '../lib/schema/encode.ts';
import { id, ids, numeric } from '../lib/schema/features.ts';
import { defineSchema } from '../lib/schema/schema.ts';
import { batchOf, difference, gradients, inputsOf, random, requests, richSchema, still, tiny, variants } from './helpers.ts';

const small = { maxHistory: 24, width: 4, timeGap: { buckets: 16, width: 2 }, head: { kind: 'pooled', hidden: [6] }, unit: [5] } as const;
const all: Record<string, ModelConfig> = {
  ...variants,
  'merge 8, width 3': { ...tiny, merge: 8, width: 3, inner: { blocks: 2, heads: 1 }, heads: 1 },
  dropout: { ...tiny, width: 3, inner: { blocks: 1, heads: 1 }, heads: 1, dropout: 0.3 },
  base: { ...presets.base(), ...small },
  'sum pooling': { ...presets['sum-pooling'](), ...small },
  din: { ...presets.din(), ...small },
};
/** Several requests a tile, one request over several tiles, empty ones in front, between and behind. */
const ragged = [0, 5, 0, 0, 24, 1, 23, 8, 0];
const tiles = (rows: number): Tiling => ({ symbols: ['events'], rows });

const runtime = new Runtime({ threads: 2 });
t.teardown(() => { runtime.dispose(); });

await t.test('tiles change no bit of the forward pass', async (t) => {
  for (const [name, config] of Object.entries(all)) {
    const model = new ModelDescription(richSchema, config);
    const state = new State(model.layout.stores());
    model.initialise(state, 5);
    for (const lengths of [ragged, [24], [0], [1]]) {
      const batch = batchOf(requests(lengths, [2, 1, 3, 0], 6), config);
      const { sizes, arrays } = inputsOf(model, batch);
      const logitsOf = async (tiling: Tiling): Promise<Float32Array> => {
        const { graph, logits } = model.full();
        graph.output('logits', logits);
        const plan = new Plan(lower(graph, model.layout, new Map(), tiling), state, runtime);
        const out = new Float32Array(batch.candidates * richSchema.tasks.length);
        await plan.run(sizes, arrays, new Map([['logits', out]]));
        plan.dispose();
        return out;
      };
      const want = await logitsOf(noTiling);
      for (const rows of [1, 7, 10, 512]) t.same(await logitsOf(tiles(rows)), want, `${name}, lengths ${lengths.join()}, tiles of ${rows}`);
    }
    state.dispose();
  }
});

await t.test('tiles change gradients by rounding only', async (t) => {
  for (const [name, config] of Object.entries(all)) {
    const model = new ModelDescription(richSchema, config);
    for (const lengths of [ragged, [24], [0]]) {
      const batch = batchOf(requests(lengths, [2, 1, 3], 6), config);
      const want = await gradients(model, batch, { tiling: noTiling }, runtime, 'reference');
      for (const rows of [1, 9, 512]) {
        const worst = difference(want, await gradients(model, batch, { tiling: tiles(rows) }, runtime, 'reference'));
        t.ok(worst < 1e-12, `${name}, lengths ${lengths.join()}, tiles of ${rows}: ${worst}`);
      }
    }
  }
});

await t.test('1, 2 and 3 threads: the same bits; all forms of recompute too', async (t) => {
  for (const name of ['paper', 'three inner blocks', 'dropout', 'rms norm, swiglu', 'din']) {
    const model = new ModelDescription(richSchema, all[name]!);
    const batch = batchOf(requests(ragged, [2, 1, 3], 6), 24);
    const want = await gradients(model, batch, { tiling: tiles(8) }, runtime);
    for (const threads of [1, 3]) {
      const rt = new Runtime({ threads });
      t.same(await gradients(model, batch, { tiling: tiles(8) }, rt), want, `${name}, ${threads} threads`);
      rt.dispose();
    }
    for (const recompute of ['selective', 'block'] as const) t.same(await gradients(model, batch, { tiling: tiles(8), recompute }, runtime), want, `${name}, ${recompute}`);
  }
});

await t.test('what a tile holds has no place in memory', async (t) => {
  const model = new ModelDescription(richSchema, { ...tiny, maxHistory: 4000, width: 16, inner: { blocks: 2, heads: 2 } });
  const sizes = model.sizesOf(4, 4000, 1);
  const state = new State([...model.layout.stores(), ...trainStep(model, still).stores]);
  const arena = (tiling?: Tiling): number => {
    const plan = new Plan(trainStep(model, { ...still, ...(tiling && { tiling }) }).spec, state, runtime);
    const { arena: bytes } = plan.memory(sizes);
    plan.dispose();
    return bytes;
  };
  const [on, off] = [arena(), arena(noTiling)];
  t.ok(on < off / 3, `${on} of ${off} bytes`);
  state.dispose();
});

await t.test('events with several ids each', async (t) => {
  const schema = defineSchema({
    tables: { tag: { size: 20, width: 3 } },
    user: { age: numeric({ mean: 30, std: 10 }) },
    event: { tags: ids('tag', { pooling: 'mean' }), words: ids('tag', { pooling: 'sum' }) },
    candidate: { tag: id('tag') },
    labels: { click: {} },
    time: true,
  });
  const next = random(5);
  const int = (n: number): number => Math.floor(next() * n);
  const list = (): number[] => Array.from({ length: int(4) }, () => int(20));
  const encoded = ragged.map((length, r) =>
    encodeRequest(schema, {
      id: `r${r}`,
      user: { age: int(60) },
      time: 100,
      history: Array.from({ length }, (_, i) => ({ tags: list(), words: list(), time: i })),
      candidates: [{ tag: int(20) }],
      labels: { click: [int(2)] },
    }),
  );
  const model = new ModelDescription(schema, tiny);
  const batch = packBatch(schema, encoded, { maxHistory: 24 });
  const want = await gradients(model, batch, { tiling: noTiling }, runtime, 'reference');
  for (const rows of [1, 9]) {
    const worst = difference(want, await gradients(model, batch, { tiling: tiles(rows) }, runtime, 'reference'));
    t.ok(worst < 1e-12, `tiles of ${rows}: ${worst}`);
  }
});

await t.test('profile, finite check and abort reach inside', async (t) => {
  const model = new ModelDescription(richSchema, tiny);
  const state = new State(model.layout.stores());
  model.initialise(state, 5);
  const { graph, logits } = model.full();
  graph.output('logits', logits);
  const plan = new Plan(lower(graph, model.layout, new Map(), tiles(8)), state, runtime);
  const { sizes, arrays } = inputsOf(model, batchOf(requests([24, 20, 13], [1], 2), 24));
  const inside = plan.graph.nodes.find((n) => n.tile)!.tile!.body;
  t.ok(inside.length > 10 && plan.nodes.length > plan.graph.nodes.length);
  const { times, firstNonFinite } = await plan.run(sizes, arrays, new Map(), { profile: true, checkFinite: true });
  t.equal(times!.length, plan.nodes.length);
  t.equal(firstNonFinite, -1);
  t.ok(inside.every((n) => times![plan.nodes.indexOf(n)]! > 0), 'every inner node has a time');

  const { store, offset } = model.layout.place('inner0.ffn.up.bias');
  state.write(store, offset, Float32Array.of(NaN));
  const bad = await plan.run(sizes, arrays, new Map(), { checkFinite: true });
  t.equal(plan.nodes[bad.firstNonFinite]?.name, 'inner0.ffn.linear');

  const broken = new Map(arrays).set('event.offsets', Int32Array.of(0, 24, 44, 56));
  await t.rejects(plan.run(sizes, broken), { code: 'ERR_GRAPH', message: /tiled.events: the offsets do not cover the rows/ });
  const ids = Int32Array.from(arrays.get('event.item')!).fill(1000, 30, 31);
  await t.rejects(plan.run(sizes, new Map(arrays).set('event.item', ids)), { code: 'ERR_GRAPH', message: /tokens\.event\.embed' \(embed\): .*1000/ });
  plan.dispose();

  const large = new ModelDescription(richSchema, { ...tiny, maxHistory: 100_000, width: 32, inner: { blocks: 3, heads: 1 } });
  const big = batchOf(requests([50_000, 50_000], [1], 2), 100_000);
  const weights = new State(large.layout.stores());
  large.initialise(weights, 5);
  const whole = large.full();
  whole.graph.output('logits', whole.logits);
  const slow = new Plan(lower(whole.graph, large.layout), weights, runtime);
  const run = inputsOf(large, big);
  const { elapsed } = await slow.run(run.sizes, run.arrays);
  const controller = new AbortController();
  const before = performance.now();
  const running = slow.run(run.sizes, run.arrays, new Map(), { signal: controller.signal });
  controller.abort(new Error('enough'));
  await t.rejects(running, { message: 'enough' });
  t.ok((performance.now() - before) * 1000 < elapsed / 2, 'stopped between tiles');
  slow.dispose();
  state.dispose();
  weights.dispose();
});
