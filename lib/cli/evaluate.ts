import { Command } from 'commander';
import { batches } from '../data/batches.ts';
import { Dataset } from '../data/reader.ts';
import { historyForm } from '../model/config.ts';
import { fullPlan } from '../model/model.ts';
import { addPredictions } from '../train/trainer.ts';
import { MetricSet, type MetricResult } from '../train/metric_set.ts';
import { Ranker } from '../rank/ranker.ts';
import { deviceOption, type Machine, machineOf, print, table, threadsOption } from './files.ts';

interface Options extends Machine {
  readonly model: string;
  readonly data: string;
  readonly skipBad?: boolean;
  readonly json?: boolean;
}

export function evaluateCommand(): Command {
  return new Command('evaluate')
    .description('exact metrics of a trained model over labelled requests')
    .requiredOption('--model <dir>', 'checkpoint directory')
    .requiredOption('--data <file>', 'labelled requests (.parquet, .arrow or .jsonl)')
    .addOption(threadsOption())
    .addOption(deviceOption())
    .option('--skip-bad', 'count bad rows and go on instead of stopping')
    .option('--json', 'as JSON')
    .action(async (options: Options) => {
      using ranker = await Ranker.open(options.model, machineOf(options));
      const { model } = ranker;
      const data = new Dataset(options.data, model.schema, { skipBad: options.skipBad ?? false });
      const plan = fullPlan(model, ranker.state, ranker.runtime, ranker.precision);
      const tasks = model.schema.tasks;
      const sets = tasks.map(() => new MetricSet());
      for await (const batch of batches(model.schema, data, { ...historyForm(model.config), maxEvents: 32_768, maxRequests: 128, maxCandidates: 8192 })) {
        const { sizes, arrays } = model.inputs(batch);
        const logits = new Float32Array(batch.candidates * tasks.length);
        await plan.run(sizes, arrays, new Map([['logits', logits]]));
        sets.forEach((set, t) => { addPredictions(set, batch, logits, tasks.length, t); });
      }
      plan.dispose();
      const results: Record<string, MetricResult> = Object.fromEntries(tasks.map((task, t) => [task.name, sets[t]!.result()]));
      print(options.json, { model: model.config.kind, tasks: results, badRows: data.badCount }, () =>
        Object.entries(results)
          .map(([task, r]) =>
            [
              `${task}: ${r.samples} impressions, ${r.positives} positive, ${r.users} users`,
              table([['metric', 'value', '95 % over users'], ...Object.entries(r.values).map(([name, v]) => [name, (v ?? NaN).toFixed(5), interval(r, name)])]),
            ].join('\n'),
          )
          .join('\n\n'),
      );
    });
}

function interval(r: MetricResult, name: string): string {
  const i = (r.intervals as Record<string, readonly [number, number] | undefined>)[name];
  return i ? `${i[0].toFixed(5)} .. ${i[1].toFixed(5)}` : '';
}
