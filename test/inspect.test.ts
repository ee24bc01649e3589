import { join } from 'node:path';
import t from 'tap';
import { type Cost, costOf } from '../lib/cli/cost.ts';
import { longerDefaults } from '../lib/model/config.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { trainDefaults } from '../lib/train/options.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { longer } from './command.ts';
import { models, requests, richSchema, tiny } from './helpers.ts';

const runtime = new Runtime({ threads: 1 });
t.teardown(() => { runtime.dispose(); });

t.test("the paper's formulas at its main configuration give the figures of spec 4.2", (t) => {
  const { paperFlops, flopsPerRequest, flopsPerCandidate } = costOf(new ModelDescription(richSchema, longerDefaults), trainDefaults, { requests: 1, history: 2000, candidates: 1 });
  t.equal(Math.round(paperFlops!.request / 1e6), 448);
  t.equal(Math.round(paperFlops!.candidate / 1e5) / 10, 7);
  // All operations count here: token MLPs and head beside the blocks.
  t.ok(flopsPerRequest > 441e6 && flopsPerRequest < 1.1 * 441e6, `${flopsPerRequest}`);
  t.ok(flopsPerCandidate > paperFlops!.candidate && flopsPerCandidate < 1.2 * paperFlops!.candidate, `${flopsPerCandidate}`);
  t.end();
});

await t.test('costs are those of the model that runs, for every kind, precision and recompute', async (t) => {
  for (const name of ['paper', 'anchored', 'learnable', 'flat head', 'base', 'din'])
    for (const options of [trainDefaults, { ...trainDefaults, precision: 'bf16' as const, recompute: 'block' as const }]) {
      const model = new ModelDescription(richSchema, models[name]!);
      const cost = costOf(model, options, { requests: 3, history: 20, candidates: 2 });
      using trainer = new Trainer(model, options, runtime);
      t.equal(cost.memory.step, trainer.plan.memory(model.sizesOf(3, 20, 2)).arena, `${name}: training step`);
      t.equal(cost.memory.parameters + cost.memory.optimizer, [...trainer.state.stores.values()].reduce((n, s) => n + 4 * s.size, 0), `${name}: state`);
      using ranker = new Ranker(model, trainer.state, runtime, { precision: options.precision });
      const { arrays } = await ranker.prefill(requests([20, 20, 20], [2]));
      t.equal(cost.memory.cache, [...arrays.values()].reduce((n, a) => n + a.byteLength, 0), `${name}: cache`);
      t.equal(3 * cost.kvBytesPerUser, [...arrays].reduce((n, [key, a]) => n + (/^[kv]\d/.test(key) ? a.byteLength : 0), 0), `${name}: keys and values`);
    }
});

t.test('a scope is named once in the path of an operation', (t) => {
  for (const name of ['paper', 'anchored', 'gate', 'three inner blocks', 'learnable', 'base', 'din', 'transformer'])
    for (const { name: path } of new ModelDescription(richSchema, models[name]!).forward().nodes) {
      const scopes = path.split('.').slice(0, -1);
      t.notOk(scopes.some((scope, i) => scope === scopes[i + 1]), path);
    }
  t.end();
});

t.test('inspect takes a preset, a config file or a checkpoint', (t) => {
  const inspect = (...args: string[]) => longer('inspect', ...args);
  const directory = t.testdir({ 'config.json': JSON.stringify({ model: tiny, train: { precision: 'bf16' } }) });
  const run = inspect('--config', join(directory, 'config.json'), '--requests', '4', '--json');
  t.equal(run.status, 0, run.stderr);
  const cost = JSON.parse(run.stdout) as Cost & { kind: string; precision: string; history: number };
  t.match(cost, { kind: 'longer', precision: 'bf16', history: tiny.maxHistory });
  t.ok(cost.memory.step > 0 && cost.parameters > 0);
  const graph = inspect('--model', 'din', '--dot');
  t.equal(graph.status, 0, graph.stderr);
  t.match(graph.stdout, /^digraph longer \{/);
  for (const [args, message] of [
    [['--model', 'transformr'], /did you mean 'transformer'/],
    [['--model', directory, '--config', 'x'], /no checkpoint here|leave out --config/],
    [['--model', 'longer', '--graph', 'svg'], /Allowed choices are text, dot/],
  ] as const) {
    const r = inspect(...args);
    t.ok(r.status === 2 || r.status === 1);
    t.match(r.stderr, message);
  }
  t.end();
});
