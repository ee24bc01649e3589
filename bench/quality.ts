/**
 * `npm run bench:quality -- --models LONGER,DIN --rates 5e-4,1e-3 --seeds 1,2`: how well models of the demo learn its world under other rates,
 * settings and seeds. One line a run; what docs/model.md says of initialisation and learning rates was found with it.
 */
import { parseArgs } from 'node:util';
import { demoModels, historyLength } from '../lib/cli/demo.ts';
import { batches } from '../lib/data/batches.ts';
import { bestAuc, makeWorld, worldDefaults, worldSchema } from '../lib/data/world.ts';
import { historyForm, type ModelConfig } from '../lib/model/config.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { encodeRequest, type EncodedRequest } from '../lib/schema/encode.ts';
import { countSteps, fit } from '../lib/train/fit.ts';
import { MetricSet } from '../lib/train/metric_set.ts';
import type { TrainOptions } from '../lib/train/options.ts';
import { addPredictions, Trainer } from '../lib/train/trainer.ts';

const { values: o } = parseArgs({
  options: {
    models: { type: 'string', default: 'LONGER' }, rates: { type: 'string' }, seeds: { type: 'string', default: '2' }, requests: { type: 'string', default: '12000' },
    model: { type: 'string', default: '{}' }, train: { type: 'string', default: '{}' }, threads: { type: 'string' }, help: { type: 'boolean' },
  },
});
if (o.help) {
  console.log(`npm run bench:quality -- [options]
  --models A,B     names of the demo's table (default LONGER)      --seeds 1,2     of world and training (default 2)
  --rates 1e-3,..  dense learning rates (default: the demo's)      --requests N    to train on (default 12000)
  --model JSON     model settings over the demo's                  --train JSON    training settings over the demo's
  --threads N      (default: all CPUs)`);
  process.exit(0);
}

using runtime = new Runtime(o.threads === undefined ? {} : { threads: Number(o.threads) });
const requests = Number(o.requests);
for (const seed of o.seeds.split(',').map(Number)) {
  const world = { ...worldDefaults, seed, historyLength, requests: requests + Math.round(requests / 4) };
  const schema = worldSchema(world);
  const samples = [...makeWorld(world)];
  const encoded = samples.map((s) => encodeRequest(schema, s.request));
  const best = bestAuc(samples.slice(requests));
  for (const name of o.models.split(',')) {
    const known = demoModels.find((m) => m.name === name);
    if (!known) throw new Error(`no model '${name}'; known: ${demoModels.map((m) => m.name).join(', ')}`);
    const model = new ModelDescription(schema, { ...known.config, ...(JSON.parse(o.model) as object) } as ModelConfig);
    for (const rate of o.rates?.split(',').map(Number) ?? [known.training.dense.learningRate]) {
      const given = JSON.parse(o.train) as Partial<TrainOptions>;
      const dense = { ...known.training.dense, ...given.dense, learningRate: rate } as TrainOptions['dense'];
      using trainer = new Trainer(model, { ...known.training, seed, ...given, dense }, runtime);
      const result = await learn(trainer, encoded.slice(0, requests), encoded.slice(requests));
      console.log(`${name.padEnd(16)} seed ${seed}  rate ${rate}  AUC ${result.auc.toFixed(4)} of ${best.toFixed(4)}  GAUC ${result.gauc.toFixed(4)}  LogLoss ${result.logLoss.toFixed(4)}  training loss ${result.curve.join(' ')}`);
    }
  }
}

/** Test metrics, and the mean training loss over each tenth of the run: a plateau is seen there. */
async function learn(trainer: Trainer, train: readonly EncodedRequest[], test: readonly EncodedRequest[]): Promise<{ auc: number; gauc: number; logLoss: number; curve: string[] }> {
  const { schema, config } = trainer.model;
  trainer.totalSteps = await countSteps(trainer, train);
  const losses: number[] = [];
  await fit(trainer, train, undefined, { onStep: ({ loss }) => void losses.push(loss) });
  const metrics = new MetricSet({ replicates: 0 });
  for await (const batch of batches(schema, test, { ...trainer.options.batch, ...historyForm(config) })) addPredictions(metrics, batch, await trainer.predict(batch), 1, 0);
  const { auc, gauc, logLoss } = metrics.result().values as { auc: number; gauc: number; logLoss: number };
  const tenth = Math.ceil(losses.length / 10);
  const curve = Array.from({ length: Math.ceil(losses.length / tenth) }, (_, i) => losses.slice(i * tenth, (i + 1) * tenth)).map((part) => (part.reduce((a, b) => a + b) / part.length).toFixed(3));
  return { auc, gauc, logLoss, curve };
}
