import { Command } from 'commander';
import { loadCheckpoint } from '../model/checkpoint.ts';
import type { ModelConfig } from '../model/config.ts';
import { ModelDescription } from '../model/model.ts';
import { schemaFromJSON } from '../schema/schema.ts';
import { print, readSchema, table, wholeNumber } from './files.ts';
import { readRunConfig } from './config_file.ts';
import { LongerError } from '../errors.ts';

interface Options {
  readonly model?: string;
  readonly schema?: string;
  readonly config?: string;
  readonly history?: number;
  readonly graph?: 'text' | 'dot';
  readonly json?: boolean;
}

export function inspectCommand(): Command {
  return new Command('inspect')
    .description('what a model costs before it runs: parameters, FLOPs, cache bytes; or its graph')
    .option('--model <dir or name>', 'checkpoint directory, or a model name together with --schema')
    .option('--schema <file>', 'schema.json')
    .option('--config <file>', 'JSON with "model" settings')
    .option('--history <n>', 'history length that the costs are for (default: the longest)', wholeNumber)
    .option('--graph <form>', 'print the scoring graph instead: text or dot')
    .option('--json', 'as JSON')
    .action(async (options: Options) => {
      const model = await describe(options);
      if (options.graph) {
        const { graph } = model.full();
        process.stdout.write(`${options.graph === 'dot' ? graph.toDot() : graph.toString()}\n`);
        return;
      }
      const history = Math.min(options.history ?? model.config.maxHistory, model.config.maxHistory);
      const cost = model.cost(history);
      print(options.json, { kind: model.config.kind, history, ...cost, config: model.config }, () =>
        table([
          [model.config.kind, `history ${history}`],
          ['parameters', cost.parameters.toLocaleString('en')],
          ['FLOPs a request (prefill)', cost.flopsPerRequest.toExponential(3)],
          ['FLOPs a candidate (cached)', cost.flopsPerCandidate.toExponential(3)],
          ['K/V bytes a user (fp32)', cost.kvBytesPerUser.toLocaleString('en')],
        ]),
      );
    });
}

async function describe(options: Options): Promise<ModelDescription> {
  if (options.schema !== undefined) {
    const run = await readRunConfig(options.config, options.model);
    return new ModelDescription(await readSchema(options.schema), run.model);
  }
  if (options.model === undefined) throw new LongerError('ERR_CONFIG', 'give --model DIR, or --schema with a model name');
  const checkpoint = await loadCheckpoint(options.model, { optimizer: false });
  return new ModelDescription(schemaFromJSON(checkpoint.schema), checkpoint.config['model'] as unknown as ModelConfig);
}
