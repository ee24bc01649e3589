import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { prepare } from '../data/prepare.ts';
import { partNames, perSecond, type PrepareOptions, type PrepareStats, type TimeUnit } from '../data/prepare_options.ts';
import { positiveNumber, print, table, wholeNumber } from './files.ts';

interface Options {
  readonly events: string;
  readonly out: string;
  readonly user: string;
  readonly item: string;
  readonly time?: string;
  readonly timeUnit: TimeUnit;
  readonly seq?: string;
  readonly value?: string;
  readonly action?: string;
  readonly eventFeatures?: string;
  readonly users?: string;
  readonly items?: string;
  readonly labelThreshold?: number;
  readonly labelActions?: string;
  readonly task?: string;
  readonly split: 'time' | 'leave-last-n' | 'leave-last-fraction';
  readonly testSize: number;
  readonly validSize?: number;
  readonly grouping: 'run' | 'time';
  readonly candidates: number;
  readonly evaluationCandidates?: number;
  readonly negatives?: number;
  readonly historyLength: number;
  readonly historyThreshold?: number;
  readonly historyActions?: string;
  readonly skipBad?: boolean;
  readonly overwrite?: boolean;
  readonly seed: number;
  readonly memoryLimit?: string;
  readonly threads?: number;
  readonly json?: boolean;
}

const list = (text: string | undefined): string[] | undefined => text?.split(',').map((s) => s.trim());

function memorySize(text: string): string {
  if (!/^\d+(\.\d+)? ?[KMGT]i?B$/i.test(text)) throw new InvalidArgumentError('expected a size as 512MB or 4GB');
  return text;
}

export function prepareCommand(): Command {
  return new Command('prepare')
    .description('from an event log (CSV, CSV.gz, Parquet) to request datasets: train, valid, test and schema.json')
    .requiredOption('--events <file>', 'event log with a header')
    .requiredOption('--out <dir>', 'directory to make')
    .option('--user <column>', 'user column', 'user')
    .option('--item <column>', 'item column', 'item')
    .option('--time <column>', 'time column; without one the log has an order only')
    .addOption(new Option('--time-unit <unit>', 'what numbers in the time column count').choices(Object.keys(perSecond)).default('s'))
    .option('--seq <column>', 'column that breaks ties, or the order where there is no time')
    .option('--value <column>', 'value column (a rating)')
    .option('--action <column>', 'action column')
    .option('--event-features <columns>', 'more columns of history events, comma separated')
    .option('--users <file>', 'user side table')
    .option('--items <file>', 'item side table')
    .option('--label-threshold <x>', 'label 1 where value >= x', Number)
    .option('--label-actions <list>', 'label 1 for these actions, comma separated')
    .option('--task <name>', 'name of the label')
    .addOption(new Option('--split <rule>', 'global time, or the last events of each user').choices(['time', 'leave-last-n', 'leave-last-fraction']).default('leave-last-fraction'))
    .option('--test-size <x>', 'fraction (time, leave-last-fraction) or events of each user (leave-last-n)', positiveNumber, 0.1)
    .option('--valid-size <x>', 'the same for a validation part before the test part', positiveNumber)
    .addOption(new Option('--grouping <rule>', 'consecutive events of a user, or events of one time, become one request').choices(['run', 'time']).default('run'))
    .option('--candidates <n>', 'most events of a request', wholeNumber, 16)
    .option('--evaluation-candidates <n>', 'the same for valid and test; 1 keeps histories freshest', wholeNumber)
    .option('--negatives <n>', 'items sampled by popularity as negatives for each positive', positiveNumber)
    .option('--history-length <n>', 'newest events kept in a history', wholeNumber, 2000)
    .option('--history-threshold <x>', 'only events with value >= x enter histories (clicks of a log of impressions); all are candidates', Number)
    .option('--history-actions <list>', 'only events of these actions enter histories, comma separated')
    .option('--skip-bad', 'leave out rows without user, item, time or value')
    .option('--overwrite', 'replace an output directory that is there')
    .option('--seed <n>', 'seed of sampling and order', wholeNumber, 1)
    .option('--memory-limit <size>', 'memory of the work, as 4GB; what needs more goes to disk beside --out (default: 80 % of the machine)', memorySize)
    .option('--threads <n>', 'threads (default: all CPUs)', wholeNumber)
    .option('--json', 'print the statistics as JSON')
    .action(async (o: Options) => {
      const stats = await prepare(toOptions(o));
      print(o.json, stats, () => summary(stats, o.out));
    });
}

function summary({ events, users, items, clock, badRows, parts, leftOut }: PrepareStats, out: string): string {
  const n = (x: number): string => x.toLocaleString('en', { maximumFractionDigits: 0 });
  const rows = partNames.flatMap((name) => {
    const p = parts[name];
    return p ? [[name, n(p.requests), n(p.candidates), n(p.positives), n(p.users), n(p.history.mean), n(p.history.median), n(p.history.max), `${(100 * p.unknownItems).toFixed(2)} %`]] : [];
  });
  return [
    `${n(events)} events of ${n(users)} users and ${n(items)} items, ${clock === 'seconds' ? 'with times' : 'in order, without times'}${badRows > 0 ? `; ${n(badRows)} bad rows left out` : ''}`,
    ...(leftOut.length > 0 ? [`columns left out, as nearly every row has a text of its own: ${leftOut.join(', ')}`] : []),
    '', table([['', 'requests', 'candidates', 'positives', 'users', 'history mean', 'median', 'longest', 'items not in train'], ...rows]), '',
    `written to ${out}; next: longer train --data ${join(out, 'train.parquet')} --schema ${join(out, 'schema.json')} --out model${parts.valid ? ` --valid ${join(out, 'valid.parquet')} --keep-best` : ''}`,
  ].join('\n');
}

function eventRule(threshold: number | undefined, actions: string | undefined): PrepareOptions['history'] {
  if (threshold !== undefined) return { kind: 'value', atLeast: threshold };
  const positive = list(actions);
  return positive && { kind: 'action', positive };
}

function splitRule(o: Options): PrepareOptions['split'] {
  const valid = o.validSize ?? 0;
  if (o.split === 'time') return { kind: 'time', fractions: [1 - valid - o.testSize, valid, o.testSize] };
  return { kind: o.split, valid, test: o.testSize };
}

function negativeRule(o: Options): PrepareOptions['negatives'] {
  return o.negatives === undefined ? undefined : { kind: 'popularity', perPositive: o.negatives };
}

function toOptions(o: Options): PrepareOptions {
  const defined = <T extends object>(value: T): T => Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as T;
  return defined({
    events: o.events,
    output: o.out,
    columns: defined({ user: o.user, item: o.item, time: o.time, seq: o.seq, value: o.value, action: o.action }),
    timeUnit: o.timeUnit,
    eventFeatures: list(o.eventFeatures),
    users: o.users,
    items: o.items,
    label: eventRule(o.labelThreshold, o.labelActions) ?? { kind: 'all' },
    history: eventRule(o.historyThreshold, o.historyActions),
    task: o.task,
    split: splitRule(o),
    grouping: o.grouping,
    candidates: o.candidates,
    evaluationCandidates: o.evaluationCandidates,
    negatives: negativeRule(o),
    historyLength: o.historyLength,
    skipBad: o.skipBad,
    overwrite: o.overwrite,
    seed: o.seed,
    memoryLimit: o.memoryLimit,
    threads: o.threads,
  }) as PrepareOptions;
}
