import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { batches } from '../data/batches.ts';
import { bestAuc, makeWorld, worldDefaults, worldSchema } from '../data/world.ts';
import { historyForm, longerDefaults, type ModelConfig, presets } from '../model/config.ts';
import { ModelDescription } from '../model/model.ts';
import { loadNative } from '../native/load.ts';
import { Runtime } from '../native/runtime.ts';
import { Ranker } from '../rank/ranker.ts';
import { encodeRequest, type EncodedRequest } from '../schema/encode.ts';
import { fit, countSteps } from '../train/fit.ts';
import { Progress } from '../train/logs.ts';
import { MetricSet } from '../train/metric_set.ts';
import { trainDefaults, type TrainOptions } from '../train/options.ts';
import { addPredictions, Trainer } from '../train/trainer.ts';
import { deviceOption, type Machine, machineOf, print, table, threadsOption, wholeNumber } from './files.ts';
import { type OpTime, timedStep } from './profile.ts';
import { type DemoReport, type DemoResult, reportHtml } from './report.ts';

export const historyLength = 200;
const shape = { maxHistory: historyLength, width: 16, timeGap: { buckets: 48, width: 8 }, head: { kind: 'pooled', hidden: [64] } } as const;

const demoTraining: TrainOptions = {
  ...trainDefaults,
  epochs: 3,
  batch: { maxEvents: 2048, maxRequests: 16, maxCandidates: 512 },
  schedule: { warmup: 100, kind: 'cosine', floor: 0.05 },
};

/** A model's own part of the training: dense rate and its base, rate of the tables, decay of the average that is judged. */
function trained(learningRate: number, { fanInBase = 0, tables = 0.05, ema = 0.998 } = {}): TrainOptions {
  return { ...demoTraining, ema, dense: { ...demoTraining.dense, learningRate, fanInBase }, sparse: { ...demoTraining.sparse, learningRate: tables } };
}

/**
 * Every model gets the same features, head, optimizer, schedule and data, and its own rates and average, chosen on the world of another seed (2):
 * dense rates between 5e-4 and 8e-3, tables at .05 or .1, with an average or without. Event tokens are 16 wide, and 32 in Transformer and LONGER.
 * The narrow baselines learn best where all their layers have one rate (`fanInBase` 0).
 */
export const demoModels: readonly { readonly name: string; readonly config: ModelConfig; readonly training: TrainOptions }[] = [
  { name: 'Base', config: { ...presets.base(), ...shape }, training: trained(1e-3) },
  { name: 'SumPooling', config: { ...presets['sum-pooling'](), ...shape }, training: trained(4e-3) },
  { name: 'DIN (recent 50)', config: { ...presets['din-recent50'](), ...shape, maxHistory: 50, unit: [32] }, training: trained(4e-3) },
  { name: 'DIN', config: { ...presets.din(), ...shape, unit: [32] }, training: trained(4e-3, { tables: 0.1, ema: 0 }) },
  { name: 'Transformer', config: { ...presets.transformer(), ...shape, width: 32, heads: 2 }, training: trained(1e-3, { fanInBase: 64 }) },
  { name: 'LONGER', config: { ...longerDefaults, ...shape, width: 32, merge: 2, queries: { kind: 'recent', k: 32 }, heads: 4 }, training: trained(1e-3, { fanInBase: 64 }) },
];

interface Options extends Machine {
  readonly requests: number;
  readonly report: string;
  readonly seed: number;
  readonly json?: boolean;
}

export function demoCommand(): Command {
  return new Command('demo')
    .description('make a world whose best possible AUC is known, train six models on it, compare them, write an HTML report')
    .option('--requests <n>', 'training requests', wholeNumber, 12_000)
    .option('--report <file>', 'the report', 'longer-demo.html')
    .addOption(threadsOption())
    .addOption(deviceOption())
    .option('--seed <n>', 'seed of world and training', wholeNumber, 1)
    .option('--json', 'print the results as JSON')
    .action(demo);
}

async function demo(o: Options): Promise<void> {
  const test = Math.max(200, Math.round(o.requests / 4));
  const world = { ...worldDefaults, seed: o.seed, historyLength, requests: o.requests + test };
  const schema = worldSchema(world);
  const samples = [...makeWorld(world)];
  const encoded = samples.map((s) => encodeRequest(schema, s.request));
  const [trainSet, testSet] = [encoded.slice(0, o.requests), encoded.slice(o.requests)];
  const best = bestAuc(samples.slice(o.requests));
  using runtime = new Runtime(machineOf(o));

  const results: DemoResult[] = [];
  let ops: OpTime[] = [];
  let graph = '';
  for (const { name, config, training } of demoModels) {
    const model = new ModelDescription(schema, config);
    using trainer = new Trainer(model, { ...training, seed: o.seed }, runtime);
    trainer.totalSteps = await countSteps(trainer, trainSet);
    const progress = new Progress({ label: name.padEnd(16), total: trainer.totalSteps, unit: 'steps' });
    const curve: [number, number][] = [];
    let milliseconds = 0;
    const began = performance.now();
    await fit(trainer, trainSet, undefined, {
      onStep(report) {
        curve.push([report.step, report.loss]);
        milliseconds += report.elapsed / 1000;
        progress.update(report.step, `loss ${report.loss.toFixed(4)}`);
      },
    });
    const trainSeconds = (performance.now() - began) / 1000;
    const { metrics, byLength } = await judge(trainer, testSet);
    progress.stop(`auc ${metrics.values.auc!.toFixed(4)} (best possible ${best.toFixed(4)}), ${trainSeconds.toFixed(0)} s`);
    const speed = await scoringSpeed(trainer, testSet[0]!);
    results.push({ name, training, parameters: model.layout.count(), metrics, byLength, curve, trainSeconds, stepMilliseconds: milliseconds / curve.length, ...speed });
    if (name === 'LONGER') {
      ops = await profileStep(trainer, trainSet);
      graph = model.score().toString();
    }
  }
  const report: DemoReport = {
    world: { items: world.items, users: world.users, historyLength, train: o.requests, test, candidates: world.candidates },
    best, seed: o.seed, results, ops, graph, isa: runtime.device === 'cpu' ? loadNative().devices().cpu.isa : runtime.device, threads: runtime.threads,
  };
  await writeFile(o.report, reportHtml(report));
  print(o.json, report, () => `\n${demoTable(report)}\n\nbest possible AUC ${best.toFixed(4)}; report: ${o.report}`);
}

export function demoTable(report: DemoReport): string {
  return table([
    ['model', 'AUC', 'GAUC', 'LogLoss', 'parameters', 'step ms', 'train s', 'cand/s cached', 'uncached'],
    ...report.results.map((r) => [
      r.name, r.metrics.values.auc!.toFixed(4), r.metrics.values.gauc!.toFixed(4), r.metrics.values.logLoss!.toFixed(4), r.parameters.toLocaleString('en'),
      r.stepMilliseconds.toFixed(1), r.trainSeconds.toFixed(1), Math.round(r.cachedPerSecond).toLocaleString('en'), Math.round(r.uncachedPerSecond).toLocaleString('en'),
    ]),
  ]);
}

async function judge(trainer: Trainer, test: readonly EncodedRequest[]): Promise<Pick<DemoResult, 'metrics' | 'byLength'>> {
  const buckets = [80, 110, 140, 170, 200];
  const sets = buckets.map(() => new MetricSet({ replicates: 0 }));
  const all = new MetricSet();
  const { model, options } = trainer;
  for (const [i, set] of sets.entries()) {
    const mine = test.filter((r) => r.events <= buckets[i]! && r.events > (buckets[i - 1] ?? 0));
    for await (const batch of batches(model.schema, mine, { ...options.batch, ...historyForm(model.config) })) {
      const logits = await trainer.predict(batch);
      addPredictions(set, batch, logits, 1, 0);
      addPredictions(all, batch, logits, 1, 0);
    }
  }
  return { metrics: all.result(), byLength: sets.map((s, i) => [buckets[i]!, s.samples > 0 ? s.result().values.auc! : NaN]) };
}

/** Candidates a second of one user: 200 candidates from the cache, and one candidate at a time by the full forward pass. */
async function scoringSpeed(trainer: Trainer, request: EncodedRequest): Promise<Pick<DemoResult, 'cachedPerSecond' | 'uncachedPerSecond'>> {
  const { model, state, runtime } = trainer;
  const ranker = new Ranker(model, state, runtime, { denseStore: trainer.denseStore });
  const repeat = (r: EncodedRequest, n: number): EncodedRequest => ({
    ...r,
    candidates: n,
    candidate: { ...r.candidate, ids: new Map([...r.candidate.ids].map(([k, v]) => [k, Int32Array.from({ length: n }, (_, i) => v[i % v.length]!)])) },
    labels: new Float32Array(n).fill(NaN),
  });
  const many = repeat(request, 200);
  const prefilled = await ranker.prefill([many]);
  await ranker.score(prefilled);
  const perSecond = async (count: number, body: () => Promise<unknown>): Promise<number> => {
    let best = Infinity;
    for (let i = 0; i < 5; ++i) {
      const began = performance.now();
      await body();
      best = Math.min(best, performance.now() - began);
    }
    return (1000 * count) / best;
  };
  const cachedPerSecond = await perSecond(200, () => ranker.score(prefilled));
  const single = repeat(request, 1);
  const uncachedPerSecond = await perSecond(1, async () => ranker.score(await ranker.prefill([single])));
  ranker.dispose();
  return { cachedPerSecond, uncachedPerSecond };
}

async function profileStep(trainer: Trainer, requests: readonly EncodedRequest[]): Promise<OpTime[]> {
  const { model, options } = trainer;
  for await (const batch of batches(model.schema, requests, { ...options.batch, ...historyForm(model.config) })) return timedStep(trainer, batch);
  return [];
}
