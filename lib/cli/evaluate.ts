import { Command } from 'commander';
import { batches } from '../data/batches.ts';
import { Catalog } from '../data/catalog.ts';
import { Dataset } from '../data/reader.ts';
import { LongerError } from '../errors.ts';
import { historyForm } from '../model/config.ts';
import { fullPlan } from '../model/model.ts';
import { addPredictions } from '../train/trainer.ts';
import { type MetricName, MetricSet, type MetricResult } from '../train/metric_set.ts';
import { Ranker } from '../rank/ranker.ts';
import { type Computed, deviceOption, type Machine, machineOf, precisionOf, precisionOption, print, table, threadsOption } from './files.ts';

interface Options extends Machine, Computed {
  readonly model: string;
  readonly data: string;
  readonly catalog?: string;
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
    .addOption(precisionOption())
    .option('--catalog <dir>', "what 'longer prepare' made: the requests (.jsonl) have the ids, columns and values of its log")
    .option('--skip-bad', 'count bad rows and go on instead of stopping')
    .option('--json', 'as JSON')
    .action(async (options: Options) => {
      using ranker = await Ranker.open(options.model, { ...machineOf(options), ...precisionOf(options) });
      const { model } = ranker;
      const catalog = options.catalog === undefined ? {} : { catalog: await Catalog.open(options.catalog) };
      const data = new Dataset(options.data, model.schema, { skipBad: options.skipBad ?? false, ...catalog });
      const plan = fullPlan(model, ranker.state, ranker.runtime, ranker.precision);
      const tasks = model.schema.tasks;
      const sets = tasks.map(() => new MetricSet());
      let requests = 0;
      for await (const batch of batches(model.schema, data, { ...historyForm(model.config), maxEvents: 32_768, maxRequests: 128, maxCandidates: 8192 })) {
        requests += batch.requests;
        const { sizes, arrays } = model.inputs(batch);
        const logits = new Float32Array(batch.candidates * tasks.length);
        await plan.run(sizes, arrays, new Map([['logits', logits]]));
        sets.forEach((set, t) => { addPredictions(set, batch, logits, tasks.length, t); });
      }
      plan.dispose();
      if (requests === 0) throw new LongerError('ERR_DATA', data.badCount > 0 ? `no request is good; bad ones: ${data.badCount}, the first: ${data.bad[0]}` : 'it holds no request', { place: options.data });
      if (sets.every((set) => set.samples === 0))
        throw new LongerError('ERR_DATA', 'no candidate has a label', { place: options.data, remedy: `Give one a candidate, as in "labels": {${JSON.stringify(tasks[0]!.name)}: [1, 0]}` });
      const results: Record<string, MetricResult> = Object.fromEntries(tasks.map((task, t) => [task.name, sets[t]!.result()]));
      print(options.json, { model: model.config.kind, tasks: results, badRows: data.badCount }, () => Object.entries(results).map(([task, r]) => shown(task, r)).join('\n\n'));
    });
}

function shown(task: string, r: MetricResult): string {
  if (r.samples === 0) return `${task}: no candidate has a label`;
  const names = Object.keys(r.values) as MetricName[];
  const number = (x: number | undefined): string => (x === undefined || Number.isNaN(x) ? '-' : x.toFixed(5));
  const unranked = names.filter((name) => r.rankedRequests[name] === 0);
  return [
    `${task}: ${counted(r.samples, 'impression')}, ${r.positives} positive, ${counted(r.users, 'user')}`,
    table([['metric', 'value', '95 % over users', 'over'], ...names.map((name) => [name, number(r.values[name]), r.intervals[name]?.map(number).join(' .. ') ?? '', over(name, r)])], ['left', 'right', 'right', 'left']),
    ...(unranked.length > 0 ? [`no request counts for ${unranked.join(', ')}: HR@k is of those with a positive and at least k negatives, NDCG@k of those with a positive and a negative`] : []),
  ].join('\n');
}

const counted = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

/** What a metric is a mean over. */
function over(name: MetricName, r: MetricResult): string {
  const requests = r.rankedRequests[name];
  if (requests !== undefined) return counted(requests, 'request');
  return name === 'gauc' ? `${counted(r.usersWithBothClasses, 'user')} with both classes` : counted(r.samples, 'impression');
}
