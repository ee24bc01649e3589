import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { ModelDescription } from '../lib/model/model.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { trainDefaults } from '../lib/train/options.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { batchOf, requests, richSchema, tiny } from './helpers.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
const rss = (): number => process.memoryUsage().rss / 2 ** 20;

await t.test('memory stays flat over 2,000 steps and scorings', async (t) => {
  using runtime = new Runtime({ threads: 2 });
  using trainer = new Trainer(new ModelDescription(richSchema, tiny), trainDefaults, runtime);
  using ranker = new Ranker(trainer.model, trainer.state, runtime);
  const batches = Array.from({ length: 10 }, (_, i) => batchOf(requests([5, 0, 24, i, 30, 8], [2, 1, 3], i), tiny.maxHistory));
  const round = async (steps: number): Promise<void> => {
    for (let i = 0; i < steps; ++i) {
      const batch = batches[i % batches.length]!;
      await trainer.train(batch);
      await ranker.score(await ranker.prefill(batch.encoded));
    }
    collect();
  };
  await round(300);
  const before = rss();
  await round(2000);
  const grown = rss() - before;
  t.ok(grown < 16, `grew by ${grown.toFixed(1)} MiB in 2,000 steps`);
});

await t.test('trainers and rankers that are dropped without dispose are freed', async (t) => {
  using runtime = new Runtime({ threads: 1 });
  const description = new ModelDescription(richSchema, { ...tiny, head: { kind: 'pooled', hidden: [256, 512] } });
  let freed = 0;
  const registry = new FinalizationRegistry(() => { freed++; });
  const batch = batchOf(requests([5, 8], [2], 1), tiny.maxHistory);
  const useAndDrop = async (): Promise<void> => {
    const trainer = new Trainer(description, trainDefaults, runtime);
    const ranker = new Ranker(description, trainer.state, runtime);
    await trainer.train(batch);
    await ranker.score(await ranker.prefill(batch.encoded));
    registry.register(trainer, 0);
    registry.register(ranker, 0);
  };
  for (let i = 0; i < 10; ++i) await useAndDrop();
  for (let i = 0; i < 20 && freed < 18; ++i) {
    collect();
    await sleep(10);
  }
  t.ok(freed >= 18, `${freed} of 20 were collected`); // the last may still stand on the stack
  const before = rss();
  for (let i = 0; i < 30; ++i) {
    await useAndDrop();
    if (i % 10 === 9) {
      collect();
      await sleep(10);
    }
  }
  collect();
  const grown = rss() - before;
  t.ok(grown < 40, `30 more, of some 2 MB of state each, grew by ${grown.toFixed(1)} MiB`);
});

await t.test('workers that train and score are terminated at any moment', async (t) => {
  const file = (path: string): string => JSON.stringify(new URL(path, import.meta.url).href);
  const built = new URL('../dist/index.js', import.meta.url);
  if (!existsSync(built)) { t.fail('dist is missing: npm run build:ts'); return; }
  const code = `
    import { parentPort } from 'node:worker_threads';
    const { defineSchema, encodeRequest, id, longerDefaults, ModelDescription, packBatch, Ranker, Runtime, Trainer, trainDefaults } = await import(${file('../dist/index.js')});
    const schema = defineSchema({ tables: { item: { size: 50, width: 8 } }, event: { item: id('item') }, candidate: { item: id('item') }, labels: { click: {} }, time: true });
    const model = new ModelDescription(schema, { ...longerDefaults, maxHistory: 64, width: 8, heads: 2, merge: 2 });
    const runtime = new Runtime({ threads: 2 });
    const trainer = new Trainer(model, trainDefaults, runtime);
    const ranker = new Ranker(model, trainer.state, runtime);
    const encoded = Array.from({ length: 8 }, (_, r) => encodeRequest(schema, { time: 1000, history: Array.from({ length: 60 }, (_, i) => ({ item: (i * r) % 50, time: i })), candidates: [{ item: r }], labels: { click: [r % 2] } }, 'r'));
    const batch = packBatch(schema, encoded, { maxHistory: 64 });
    for (;;) {
      const report = await trainer.train(batch);
      const scores = await ranker.score(await ranker.prefill(encoded));
      parentPort.postMessage({ loss: report.loss, finite: scores.every(Number.isFinite) });
    }`;
  const losses = new Set<number>();
  for (let round = 0; round < 3; ++round) {
    const workers = [0, 1].map(() => new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), { execArgv: [] }));
    for (const worker of workers) worker.on('error', (error) => { t.fail(String(error)); });
    const firsts = await Promise.all(workers.map(async (w) => ((await once(w, 'message')) as [{ loss: number; finite: boolean }])[0]));
    for (const first of firsts) {
      t.ok(first.finite);
      losses.add(first.loss);
    }
    await sleep(round * 7);
    await Promise.all(workers.map((w) => w.terminate()));
  }
  t.equal(losses.size, 1, 'every worker took the same first step');
});
