import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type LongerConfig, presets } from '../lib/model/config.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { State } from '../lib/native/plan.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { type Prefilled, Ranker } from '../lib/rank/ranker.ts';
import { encodeRequest } from '../lib/schema/encode.ts';
import { id } from '../lib/schema/features.ts';
import { defineSchema, type Schema } from '../lib/schema/schema.ts';
import { trainDefaults } from '../lib/train/options.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { batchOf, requests, richSchema, tiny, variants } from './helpers.ts';

const runtime = new Runtime({ threads: 2 });
t.teardown(() => { runtime.dispose(); });

async function saved(t: Test, config = tiny): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'longer-ranker-'));
  t.teardown(() => { rmSync(directory, { recursive: true }); });
  const trainer = new Trainer(new ModelDescription(richSchema, config), trainDefaults, runtime);
  await trainer.save(directory, {});
  trainer.dispose();
  return directory;
}

const request = {
  user: { user_id: 'u1', age: 41, likes: [3, 4] },
  context: { hour: 7 },
  time: 9000,
  history: [{ item: 1, action: 0, dwell: 5, time: 10 }, { item: 2, action: 2, dwell: 50, time: 8000 }],
};
const candidates = [{ item: 9, price: 1.5 }, { item: 10, price: 2 }];

await t.test('requests are taken as the schema types them', async (t) => {
  using ranker = await Ranker.open(await saved(t), { schema: richSchema, runtime });
  const whole = encodeRequest(richSchema, { ...request, candidates });
  const wanted = await ranker.score(await ranker.prefill([whole]));
  const cache = await ranker.prefill([request]);
  t.same(await ranker.score(cache, [candidates]), wanted, 'rows');
  t.same(await ranker.score(cache, [{ item: Int32Array.of(9, 10), price: Float64Array.of(1.5, 2) }]), wanted, 'columns');
  t.same(await ranker.score(await ranker.prefill(ranker.pack([{ ...request, candidates }]))), wanted, 'packed before');
  t.same((await ranker.score(cache)).length, 0, 'a request without candidates');
  // @ts-expect-error a candidate without its item
  await t.rejects(ranker.score(cache, [[{ price: 1 }]]), { code: 'ERR_DATA', place: 'request 0: candidates[0].item' });
  // @ts-expect-error a request without its time
  await t.rejects(ranker.prefill([{ ...request, time: undefined }]), { code: 'ERR_DATA' });
  await t.rejects(ranker.score(cache, [candidates, candidates]), { code: 'ERR_SHAPE' });
  const other = defineSchema({ user: { sex: id(2, 2) }, event: { page: id(9, 2) }, candidate: { page: id(9, 2) }, labels: { buy: {} }, time: false });
  const foreign = encodeRequest(other, { user: { sex: 1 }, history: [{ page: 3 }], candidates: [{ page: 4 }] });
  t.throws(() => ranker.pack([foreign]), { code: 'ERR_SCHEMA', place: 'request 0' });
  const { item } = richSchema.spec.tables;
  const twin = encodeRequest(defineSchema({ ...richSchema.spec, tables: { ...richSchema.spec.tables, item: { ...item, size: item.size + 1 } } }), { ...request, candidates } as never);
  t.throws(() => ranker.pack([twin]), { code: 'ERR_SCHEMA', place: 'request 0' }, 'the same names with other tables');
  await t.rejects(ranker.score(cache, [foreign]), { code: 'ERR_SCHEMA' });
  t.throws(() => ranker.pack([null as never]), { code: 'ERR_DATA', place: 'request 0' });
  await t.rejects(ranker.score(cache, [null as never]), { code: 'ERR_DATA', place: 'request 0: candidates' });
});

await t.test('histories packed for another model are refused where its form is another', async (t) => {
  const ranker = (config: LongerConfig, schema: Schema = richSchema): Ranker => {
    const model = new ModelDescription(schema, config);
    const state = new State(model.layout.stores());
    model.initialise(state, 1);
    const made = new Ranker(model, state, runtime, { owned: [state] });
    t.teardown(() => { made.dispose(); });
    return made;
  };
  const [one, twin, other] = [ranker(tiny), ranker({ ...tiny }), ranker({ ...tiny, merge: 3, inner: { blocks: 1, heads: 1 }, alignment: 'oldest' })];
  const packed = one.pack([request]);
  const numbers = ({ arrays }: Prefilled): Map<string, ArrayLike<number>> => new Map([...arrays].map(([name, a]) => [name, a.read()]));
  t.same(numbers(await twin.prefill(packed)), numbers(await twin.prefill([request])), 'the same settings and schema');
  await t.rejects(other.prefill(packed), { code: 'ERR_DATA', message: /packed in another form: merge 2, and this model has 3; .*alignment "newest", and this model has "oldest".*Pack them with this ranker/ });
  const foreign = defineSchema({ ...richSchema.spec, labels: { click: {} } });
  await t.rejects(ranker(tiny, foreign).prefill(packed), { code: 'ERR_SCHEMA' });
});

await t.test('a state in training is ranked with the average that its checkpoints hold', async (t) => {
  const model = new ModelDescription(richSchema, tiny);
  using trainer = new Trainer(model, { ...trainDefaults, ema: 0.9, schedule: { warmup: 0, kind: 'constant', floor: 1 } }, runtime);
  const some = requests([5, 24], [2, 3], 3);
  for (let i = 0; i < 5; ++i) await trainer.train(batchOf(some, tiny));
  using ranker = new Ranker(model, trainer.state, runtime, { denseStore: trainer.denseStore });
  using raw = new Ranker(model, trainer.state, runtime);
  const evaluated = await trainer.predict(batchOf(some, tiny));
  t.same(await ranker.score(await ranker.prefill(some)), evaluated);
  t.notSame(await raw.score(await raw.prefill(some)), evaluated, 'the raw weights are others');
});

await t.test('other candidates of a cache score as if they had come with the request', async (t) => {
  for (const config of [...Object.values(variants), { ...presets.din(), maxHistory: 24 }]) {
    const trainer = new Trainer(new ModelDescription(richSchema, config), trainDefaults, runtime);
    const ranker = new Ranker(trainer.model, trainer.state, runtime);
    const [first, second] = [requests([5, 0, 24], [2, 1, 3], 1), requests([5, 0, 24], [1, 4, 0], 2)];
    const mixed = first.map((r, i) => ({ ...r, candidate: second[i]!.candidate, candidates: second[i]!.candidates, labels: second[i]!.labels }));
    t.same(await ranker.score(await ranker.prefill(first), second), await ranker.score(await ranker.prefill(mixed)));
    ranker.dispose();
    trainer.dispose();
  }
});

await t.test('weights that change are read anew, by every plan that holds them in another form', async (t) => {
  for (const precision of ['fp32', 'bf16'] as const) {
    const model = new ModelDescription(richSchema, tiny);
    const [state, other] = [new State(model.layout.stores()), new State(model.layout.stores())];
    t.teardown(() => { state.dispose(); other.dispose(); });
    model.initialise(state, 1);
    model.initialise(other, 2);
    const [ranker, expected] = [new Ranker(model, state, runtime, { precision }), new Ranker(model, other, runtime, { precision })];
    t.teardown(() => { ranker.dispose(); expected.dispose(); });
    const some = requests([5, 24], [2, 3], 3);
    const score = async (r: Ranker): Promise<Float32Array> => r.score(await r.prefill(some));
    const before = await score(ranker);
    for (const name of model.layout.stores()) state.write(name.name, 0, other.read(name.name, 0, new Float32Array(name.size)));
    t.same(await score(ranker), await score(expected), precision);
    t.notSame(await score(ranker), before, 'the weights are others');
  }
});

await t.test('another schema is refused', async (t) => {
  const other = defineSchema({ event: { item: id(50, 6) }, candidate: { item: id(50, 6) }, labels: { click: {} }, time: true });
  await t.rejects(Ranker.open(await saved(t), { schema: other, runtime }), { code: 'ERR_SCHEMA' });
});

await t.test('a model trained with dropout is evaluated and served without', async (t) => {
  const encoded = requests([5, 0, 24], [2, 1, 3], 1);
  const scores: Float32Array[] = [];
  for (const dropout of [0, 0.5]) {
    const trainer = new Trainer(new ModelDescription(richSchema, { ...tiny, dropout }), trainDefaults, runtime);
    const ranker = new Ranker(trainer.model, trainer.state, runtime);
    scores.push(await ranker.score(await ranker.prefill(encoded)), await trainer.predict(batchOf(encoded, tiny.maxHistory)));
    ranker.dispose();
    trainer.dispose();
  }
  for (const s of scores) t.same(s, scores[0]);
});
