import { Command, Option } from 'commander';
import { worldDefaults, worldSchema } from '../data/world.ts';
import { LongerError } from '../errors.ts';
import { ModelDescription } from '../model/model.ts';
import type { TrainOptions } from '../train/options.ts';
import { readRunConfig } from './config_file.ts';
import { costOf } from './cost.ts';
import { print, readSchema, table, wholeNumber } from './files.ts';
import { isPreset, loadSaved } from './named_model.ts';

interface Options {
  readonly model?: string;
  readonly schema?: string;
  readonly config?: string;
  readonly history?: number;
  readonly requests: number;
  readonly candidates: number;
  readonly graph?: 'text' | 'dot';
  readonly dot?: boolean;
  readonly json?: boolean;
}

export function inspectCommand(): Command {
  return new Command('inspect')
    .description('what a model costs before it runs: parameters, FLOPs, memory, cache bytes; or its graph')
    .option('--model <dir or name>', 'checkpoint directory or preset name')
    .option('--config <file>', 'JSON with "model" and "train" settings')
    .option('--schema <file>', 'schema.json (default: the checkpoint\'s own, else that of the demo)')
    .option('--history <n>', 'events of a request (default: the longest)', wholeNumber)
    .option('--requests <n>', 'requests of a batch', wholeNumber, 32)
    .option('--candidates <n>', 'candidates a request', wholeNumber, 1)
    .addOption(new Option('--graph <form>', 'print the scoring graph instead').choices(['text', 'dot']))
    .option('--dot', 'the same as --graph dot')
    .option('--json', 'as JSON')
    .action(async (options: Options) => {
      const { model, train, schema } = await describe(options);
      const form = options.dot ? 'dot' : options.graph;
      if (form) {
        const graph = model.forward(train.precision);
        process.stdout.write(`${form === 'dot' ? graph.toDot() : graph.toString()}\n`);
        return;
      }
      const { config } = model;
      const batch = { requests: Math.max(1, options.requests), history: Math.min(options.history ?? config.maxHistory, config.maxHistory), candidates: options.candidates };
      const cost = costOf(model, train, batch);
      const { memory, paperFlops: paper } = cost;
      const summary = { kind: config.kind, schema, precision: train.precision, recompute: train.recompute, ...batch, ...cost, config };
      print(options.json, summary, () => table([
        [config.kind, `${batch.history} events, ${typeof train.precision === 'string' ? train.precision : train.precision.mode}`],
        ['schema', schema],
        ['parameters', cost.parameters.toLocaleString('en')],
        ['FLOPs a request (prefill)', count(cost.flopsPerRequest)],
        ['FLOPs a candidate (cached)', count(cost.flopsPerCandidate)],
        ...(paper ? [["by the paper's formulas: a request with one candidate", count(paper.request)], ['  each candidate more', count(paper.candidate)]] : []),
        ['K/V bytes a user', cost.kvBytesPerUser.toLocaleString('en')],
        ['parameters and optimizer state', mebibytes(memory.parameters + memory.optimizer)],
        [`training step of ${batch.requests} requests, ${batch.candidates} candidates each`, count(cost.flopsPerStep)],
        ['  peak memory beside the state', mebibytes(memory.step)],
        ...memory.largest.slice(0, 3).map((v) => [`    ${v.name}`, mebibytes(v.bytes)]),
        [`prefill of ${batch.requests} requests: peak memory`, mebibytes(memory.prefill)],
        ['  the cache that it gives', mebibytes(memory.cache)],
      ]));
    });
}

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const count = (flops: number): string => (flops >= 1e9 ? `${(flops / 1e9).toFixed(2)} GFLOP` : `${(flops / 1e6).toFixed(2)} MFLOP`);

async function describe({ model: name, config, schema: path }: Options): Promise<{ model: ModelDescription; train: TrainOptions; schema: string }> {
  if (name === undefined && config === undefined)
    throw new LongerError('ERR_CONFIG', 'give --model with a checkpoint directory or a preset name, or --config with a file');
  if (name === undefined || isPreset(name)) {
    const run = await readRunConfig(config, name);
    const schema = path === undefined ? worldSchema(worldDefaults) : await readSchema(path);
    return { model: new ModelDescription(schema, run.model), train: run.train, schema: path ?? 'of the demo (give yours with --schema)' };
  }
  const saved = await loadSaved(name, { optimizer: false });
  const other = config !== undefined ? '--config' : path !== undefined ? '--schema' : undefined;
  if (other) throw new LongerError('ERR_CONFIG', `a saved model has settings and a schema of its own: leave out ${other}`, { place: name });
  return { model: new ModelDescription(saved.schema, saved.config), train: saved.train, schema: `of ${saved.checkpoint.directory}` };
}
