import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { prepare } from '../data/prepare.ts';
import { type OptionNames, partNames, perSecond, type PrepareOptions, type PrepareStats, type ReadAs, type TaskStats, type TimeUnit } from '../data/prepare_options.ts';
import { isReadAs, readAsForms } from '../data/prepare_read_as.ts';
import { LongerError } from '../errors.ts';
import { positiveNumber, print, table, wholeNumber } from './files.ts';
import { addLabel, type Labels, numberOf, valuesOf } from './label_rules.ts';

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
  readonly readAs?: Readonly<Record<string, ReadAs>>;
  readonly users?: string;
  readonly items?: string;
  readonly label?: Labels;
  readonly labelThreshold?: number;
  readonly labelActions?: readonly string[];
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
  readonly historyActions?: readonly string[];
  readonly skipBad?: boolean;
  readonly overwrite?: boolean;
  readonly seed: number;
  readonly memoryLimit?: string;
  readonly threads?: number;
  readonly json?: boolean;
}

const list = (text: string | undefined): string[] | undefined => text?.split(',').map((s) => s.trim());

function addReadAs(text: string, before: Readonly<Record<string, ReadAs>> = {}): Readonly<Record<string, ReadAs>> {
  const at = [...text].findIndex((c, i) => i > 0 && c === '=' && isReadAs(text.slice(i + 1)));
  if (at < 0) throw new InvalidArgumentError(`expected a column and ${readAsForms}, as author_id=id`);
  const [column, as] = [text.slice(0, at), text.slice(at + 1) as ReadAs];
  if (Object.hasOwn(before, column)) throw new InvalidArgumentError(`${column} is named twice`);
  return { ...before, [column]: as };
}

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
    .option('--read-as <column=kind>', "how a column of a side table or the log becomes a feature, once each: author_id=id, tags=ids (a|b), 'tags=ids:;' (a;b), price=number, age=buckets, title=none; items.age=… where two tables have it (default: as its values suggest)", addReadAs)
    .option('--label <task=rule>', "a task, once each: like=action:like,share 'long=watch_ms>=30000' (>=, >, <=, < or a list of values of any column), seen=all (with --negatives)", (text, before: Labels | undefined) => addLabel(text, before))
    .option('--label-threshold <x>', 'one task: 1 where --value >= x', (text) => numberOf(text))
    .option('--label-actions <list>', 'one task: 1 for these of --action, comma separated', valuesOf)
    .option('--task <name>', 'name of that one task (default: label)')
    .addOption(new Option('--split <rule>', 'global time, or the last events of each user').choices(['time', 'leave-last-n', 'leave-last-fraction']).default('leave-last-fraction'))
    .option('--test-size <x>', 'fraction (time, leave-last-fraction) or events of each user (leave-last-n)', positiveNumber, 0.1)
    .option('--valid-size <x>', 'the same for a validation part before the test part', positiveNumber)
    .addOption(new Option('--grouping <rule>', 'consecutive events of a user, or events of one time, become one request').choices(['run', 'time']).default('run'))
    .option('--candidates <n>', 'most events of a request', wholeNumber, 16)
    .option('--evaluation-candidates <n>', 'the same for valid and test; 1 keeps histories freshest', wholeNumber)
    .option('--negatives <n>', 'items sampled by popularity as negatives for each positive', positiveNumber)
    .option('--history-length <n>', 'newest events kept in a history', wholeNumber, 2000)
    .option('--history-threshold <x>', 'only events with value >= x enter histories (clicks of a log of impressions); all are candidates', (text) => numberOf(text))
    .option('--history-actions <list>', 'only events of these actions enter histories, comma separated', valuesOf)
    .option('--skip-bad', 'leave out rows without user, item or time, without any label, or with a text where a number is due')
    .option('--overwrite', 'replace an output directory that is there')
    .option('--seed <n>', 'seed of sampling and order', wholeNumber, 1)
    .option('--memory-limit <size>', 'memory of the work, as 4GB; what needs more goes to disk beside --out (default: 80 % of the machine)', memorySize)
    .option('--threads <n>', 'threads (default: all CPUs)', wholeNumber)
    .option('--json', 'print the statistics as JSON')
    .action(async (o: Options) => {
      const stats = await prepare(toOptions(o), {}, flagNames(o));
      for (const warning of stats.warnings) process.stderr.write(`longer: warning: ${warning}\n`);
      print(o.json, stats, () => summary(stats, o.out));
    });
}

function summary({ events, users, items, clock, badRows, parts, readAs, leftOut }: PrepareStats, out: string): string {
  const n = (x: number): string => x.toLocaleString('en', { maximumFractionDigits: 0 });
  const rows = partNames.flatMap((name) => {
    const p = parts[name];
    return p ? [[name, n(p.requests), n(p.candidates), n(p.users), n(p.history.mean), n(p.history.median), n(p.history.max), `${(100 * p.unknownItems).toFixed(2)} %`]] : [];
  });
  const there = partNames.filter((name) => parts[name]);
  const share = ({ labelled, positive }: TaskStats): string => (labelled === 0 ? 'no label' : `${n(positive)} of ${n(labelled)} (${((100 * positive) / labelled).toFixed(1)} %)`);
  const positives = Object.keys(parts.train!.tasks).map((task) => [task, ...there.map((name) => share(parts[name]!.tasks[task]!))]);
  return [
    `${n(events)} events of ${n(users)} users and ${n(items)} items, ${clock === 'seconds' ? 'with times' : 'in order, without times'}${badRows > 0 ? `; ${n(badRows)} bad row${badRows === 1 ? '' : 's'} left out` : ''}`,
    ...(Object.keys(readAs).length > 0 ? [`read as (--read-as says otherwise): ${Object.entries(readAs).map(([column, as]) => quoted(`${column}=${as}`)).join(' ')}`] : []),
    ...(leftOut.length > 0 ? [`columns left out, as nearly every row has a text of its own: ${leftOut.join(', ')}`] : []),
    '', table([['', 'requests', 'candidates', 'users', 'history mean', 'median', 'longest', 'items not in train'], ...rows]),
    '', table([['positives', ...there], ...positives]), '',
    `written to ${out}; next: longer train --data ${join(out, 'train.parquet')} --schema ${join(out, 'schema.json')} --out model${parts.valid ? ` --valid ${join(out, 'valid.parquet')} --keep-best` : ''}`,
  ].join('\n');
}

/** As a shell takes it. */
const quoted = (text: string): string => (/^[\w.:=,-]+$/.test(text) ? text : `'${text}'`);

/** Of a threshold on --value or actions of --action. */
function eventRule(threshold: number | undefined, actions: readonly string[] | undefined, kind: 'label' | 'history'): PrepareOptions['history'] {
  if (threshold !== undefined && actions !== undefined)
    throw new LongerError('ERR_CONFIG', 'only one of them can decide', { place: `--${kind}-threshold, --${kind}-actions`, remedy: kind === 'label' ? 'Leave one out, or name two tasks (--label)' : 'Leave one out' });
  if (threshold !== undefined) return { kind: 'value', atLeast: threshold };
  return actions && { kind: 'action', positive: actions };
}

function labelsOf(o: Options): Labels {
  const single = [['--label-threshold', o.labelThreshold], ['--label-actions', o.labelActions], ['--task', o.task]].flatMap(([flag, value]) => (value === undefined ? [] : [flag]));
  if (o.label && single.length > 0)
    throw new LongerError('ERR_CONFIG', `--label names its tasks and rules itself and cannot stand beside ${single.join(' and ')}`, { remedy: "Give every task a --label, as --label like=action:like --label 'long=watch_ms>=30000'" });
  return o.label ?? { [o.task ?? 'label']: eventRule(o.labelThreshold, o.labelActions, 'label') ?? { kind: 'all' } };
}

const kebab = (name: string): string => `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;

/** The flags of options, as errors name them. */
function flagNames(o: Options): OptionNames {
  const flags: Readonly<Record<string, string>> = {
    labels: '--label', history: o.historyThreshold === undefined ? '--history-actions' : '--history-threshold', output: '--out',
    split: '--split, --test-size, --valid-size', 'split.fractions': '--test-size, --valid-size', 'negatives.perPositive': '--negatives',
  };
  const single = o.labelThreshold === undefined ? (o.labelActions === undefined ? '--label' : '--label-actions') : '--label-threshold';
  return (option) => {
    const [, column] = /^columns\.(.*)$/.exec(option) ?? [];
    const [, task] = /^labels\.(.*)$/s.exec(option) ?? [];
    if (option.startsWith('readAs.')) return `--read-as ${option.slice('readAs.'.length)}`;
    if (task !== undefined) return o.label ? `--label ${task}` : single;
    return flags[option] ?? kebab(column ?? option);
  };
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
    readAs: o.readAs,
    users: o.users,
    items: o.items,
    labels: labelsOf(o),
    history: eventRule(o.historyThreshold, o.historyActions, 'history'),
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
