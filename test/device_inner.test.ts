// A whole block of the InnerTransformer as one operation, on an emulated GPU: where it is taken, how far off it is, that all graphs of a model agree.
import t from 'tap';
import './emulated_gpu.ts';
import type { Graph } from '../lib/graph/graph.ts';
import { cpuTarget, type Target } from '../lib/graph/passes/inner_transformer.ts';
import type { Precision } from '../lib/graph/passes/precision.ts';
import type { LongerConfig } from '../lib/model/config.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { State } from '../lib/native/plan.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { PagedRanker } from '../lib/rank/paged_ranker.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { trainDefaults } from '../lib/train/options.ts';
import { trainStep } from '../lib/train/step.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { banded, batchOf, difference, gradients, requests, richSchema, scramble, still, tiny } from './helpers.ts';

t.setTimeout(900_000); // the addon with the emulated GPU is built here
const cpu = new Runtime({ threads: 2 });
const device = new Runtime({ threads: 1, device: 'emulated' });
t.teardown(() => { cpu.dispose(); device.dispose(); });

const wide: LongerConfig = { ...tiny, width: 16, merge: 2, heads: 4 };
const forms: Readonly<Record<string, LongerConfig>> = {
  'd 16, K 2': wide,
  'd 16, K 1, one head': { ...wide, merge: 1, inner: { blocks: 1, heads: 1 } },
  'd 16, K 16, rms norm': { ...wide, merge: 16, norm: 'rms' },
  'd 32, K 4, oldest-aligned': { ...wide, width: 32, merge: 4, alignment: 'oldest', inner: { blocks: 1, heads: 4 } },
  'd 32, K 8, three blocks': { ...wide, width: 32, merge: 8, inner: { blocks: 3, heads: 2 } },
  'd 32, K 2': { ...wide, width: 32, inner: { blocks: 1, heads: 4 } },
};
/** As the parts run, for one reason each. */
const inParts: Readonly<Record<string, readonly [LongerConfig, Precision]>> = {
  'fp32': [wide, 'fp32'],
  'tf32': [wide, 'tf32'],
  'another width': [{ ...wide, width: 24, heads: 4 }, 'bf16'],
  'a wider one': [{ ...wide, width: 64, heads: 4 }, 'bf16'],
  'heads of one column': [{ ...wide, inner: { blocks: 1, heads: 16 } }, 'bf16'],
  'a group size that does not divide 16': [{ ...wide, merge: 3, heads: 4 }, 'bf16'],
  'SwiGLU': [{ ...wide, ffn: 'swiglu' }, 'bf16'],
  'a gate': [{ ...wide, gate: true }, 'bf16'],
  'the block in fp32': [wide, { mode: 'bf16', full: ['inner0'] }],
  'a part of it in fp32': [wide, { mode: 'fp16', full: ['inner0.qkv'] }],
  'the tokens in fp32': [wide, { mode: 'bf16', full: ['tokens'] }],
};
const encoded = requests([5, 0, 24, 1], [2, 1, 3], 3);
const gradScaler = { initScale: 1024, growthInterval: 2000 };
const count = (graph: Graph, op: string): number => graph.nodes.filter((n) => n.op.name === op && !n.again).length;

await t.test('where a plan runs on a device in bf16 or fp16 a block is one operation; elsewhere, and in any other form, its parts are', (t) => {
  for (const [name, config] of Object.entries(forms)) {
    const model = new ModelDescription(richSchema, config);
    for (const precision of ['bf16', 'fp16'] as const) {
      const { graph } = trainStep(model, { ...still, precision, target: device });
      const { blocks } = config.inner;
      t.same([count(graph, 'inner_transformer'), count(graph, 'inner_transformer_dx'), count(graph, 'group_attention')], [blocks, blocks, 0], `${name}, ${precision}`);
      t.same([model.forward(precision, device), model.prefill(precision, device)].map((g) => [count(g, 'inner_transformer'), count(g, 'group_attention')]), [[blocks, 0], [blocks, 0]]);
      t.match(graph.toString(), /:b?f16\[events, \d+\] = inner_transformer\(tokens\S+, event\.(offsets|parts), inner0\.norm1\.gain/);
      const parts = trainStep(model, { ...still, precision });
      t.same([count(parts.graph, 'inner_transformer'), count(parts.graph, 'group_attention')], [0, blocks], 'on the CPU');
      const sizes = model.sizesOf(3, 20, 2);
      t.ok(Math.abs(graph.flops(sizes) / parts.graph.flops(sizes) - 1) < 1e-12, 'it is the same work');
      t.ok(graph.bytes(sizes) < parts.graph.bytes(sizes));
      t.same([...graph.parameters.keys()].sort(), [...parts.graph.parameters.keys()].sort());
    }
  }
  for (const [name, [config, precision]] of Object.entries(inParts)) {
    const model = new ModelDescription(richSchema, config);
    const { graph } = trainStep(model, { ...still, precision, target: device });
    t.same([count(graph, 'inner_transformer'), count(graph, 'group_attention')], [0, 1], name);
    t.same(count(model.prefill(precision, device), 'inner_transformer'), 0, name);
  }
  const dropping = trainStep(new ModelDescription(richSchema, { ...wide, dropout: 0.1 }), { ...still, precision: 'bf16', target: device });
  t.same(count(dropping.graph, 'inner_transformer'), 0, 'dropout');
  t.end();
});

await t.test('loss and logits err at most twice, gradients at most three times as much as the same in bf16 on the CPU; and as the parts do', async (t) => {
  for (const [name, config] of Object.entries(forms)) {
    const model = new ModelDescription(richSchema, config);
    const batch = batchOf(encoded, config);
    const exact = await gradients(model, batch, {}, cpu, 'reference');
    const pick = (r: typeof exact, names: readonly string[]): typeof exact => Object.fromEntries(names.map((n) => [n, r[n]!]));
    const off = async (precision: Precision, runtime: Runtime, target: Target = runtime): Promise<number[]> => {
      const found = await gradients(model, batch, { precision, gradScaler, target }, runtime);
      return [['loss', 'logits'], ['dense']].map((names) => difference(pick(exact, names), pick(found, names)));
    };
    const plain = await off('bf16', cpu);
    for (const precision of ['bf16', 'fp16'] as const) {
      if (precision === 'bf16' && config.width * config.merge > 128) continue; // takes the emulator long
      const [found, parts] = [await off(precision, device), await off(precision, device, cpuTarget)];
      t.not(found.join(), parts.join(), 'they are two forms');
      const less = precision === 'bf16' ? 1 : 4;
      t.ok(found[0]! <= (2 * plain[0]!) / less && found[1]! <= (3 * plain[1]!) / less, `${name}, ${precision}: ${found.join()}, in parts ${parts.join()}, bf16 on the CPU ${plain.join()}`);
    }
  }
});

await t.test('recompute drops nothing of a block and changes no bit', async (t) => {
  const model = new ModelDescription(richSchema, wide);
  const batch = batchOf(encoded, wide);
  const kept = await gradients(model, batch, { precision: 'bf16' }, device);
  for (const recompute of ['selective', 'block'] as const) t.same(await gradients(model, batch, { precision: 'bf16', recompute }, device), kept, recompute);
});

await t.test('training goes where the CPU goes', async (t) => {
  const model = new ModelDescription(richSchema, forms['d 32, K 8, three blocks']!);
  const options = { ...trainDefaults, schedule: { warmup: 0, kind: 'constant', floor: 1 }, dense: { ...trainDefaults.dense, eps: 1e-6 }, precision: 'bf16' } as const;
  using there = new Trainer(model, options, device);
  using here = new Trainer(model, options, cpu);
  const batch = batchOf(encoded, model.config);
  for (let step = 0; step < 4; ++step) {
    const [a, b] = [await here.train(batch), await there.train(batch)];
    t.ok(Math.abs(a.loss - b.loss) < 0.01 && Math.abs(a.norm.dense / b.norm.dense - 1) < 0.05, `loss ${a.loss} and ${b.loss}, norms ${a.norm.dense} and ${b.norm.dense}`);
  }
  using ranker = new Ranker(model, there.state, device, { precision: 'bf16' });
  t.same(await ranker.score(await ranker.prefill(encoded)), await there.predict(batch), 'what is served is what is evaluated');
});

await t.test('the bits of a score are the same from the cache, for a request and a candidate alone, from pages and after an append', async (t) => {
  const served = [
    ['d 16, K 2', 'bf16'], ['d 16, K 1, one head', 'fp16'], ['d 32, K 4, oldest-aligned', 'fp16'], ['d 32, K 2', 'bf16'], ['banded', 'bf16'],
  ] as const;
  for (const [name, precision] of served) {
    const config = name === 'banded' ? { ...banded, width: 16, merge: 4, heads: 4 } : forms[name]!;
    const model = new ModelDescription(richSchema, config);
    using state = new State(model.layout.stores(), device);
    model.initialise(state, 5);
    scramble(model, state);
    using ranker = new Ranker(model, state, device, { precision });
    const { equal, checks } = await ranker.verifyParity(encoded);
    t.ok(equal, `${name}, ${precision}: ${JSON.stringify(checks)}`);
    using pages = new PagedRanker(ranker, { bytes: 400_000 });
    t.same(await pages.score(await pages.hold(encoded)), await ranker.score(await ranker.prefill(encoded)), `${name}: from pages`);
    if (name !== 'banded') continue;
    const history = Array.from({ length: 23 }, (_, i) => ({ item: i + 1, action: i % 3, dwell: 5 * i, time: 1000 + 10 * i }));
    const request = { user: { user_id: 'u', age: 3, likes: [4] }, context: { hour: 1 }, time: 2000, candidates: [{ item: 3, price: 1 }, { item: 9, price: 2 }] };
    const grown = await ranker.append(await ranker.prefill([{ ...request, history: history.slice(0, 13) }]), [{ history: history.slice(13), time: 2000 }]);
    t.same(await ranker.score(grown, [request.candidates]), await ranker.score(await ranker.prefill([{ ...request, history }])), 'after an append');
  }
});
