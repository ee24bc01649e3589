import { LongerError } from '../errors.ts';
import { boundKinds } from './prepare_labels.ts';
import { isReadAs, readAsForms } from './prepare_read_as.ts';
import { type EventRule, type OptionNames, perSecond, type PrepareOptions } from './prepare_options.ts';

/** @throws LongerError ERR_CONFIG for options that do not fit together, before anything is read */
export function checkPrepareOptions(options: PrepareOptions, named: OptionNames): void {
  const fail = (option: string, message: string, remedy?: string): never => {
    throw new LongerError('ERR_CONFIG', message, { place: named(option), ...(remedy === undefined ? {} : { remedy }) });
  };
  for (const [option, value, low] of [
    ['candidates', options.candidates ?? 16, 1], ['evaluationCandidates', options.evaluationCandidates ?? 1, 1],
    ['historyLength', options.historyLength ?? 1, 1], ['minHistory', options.minHistory ?? 0, 0], ['seed', options.seed ?? 1, 0],
  ] as const) if (!Number.isSafeInteger(value) || value < low) fail(option, `expected a whole number of at least ${low}, got ${value}`);
  for (const [column, as] of Object.entries(options.readAs ?? {}))
    if (!isReadAs(as)) fail(`readAs.${column}`, `expected ${readAsForms}, got ${JSON.stringify(as)}`);
  const { split, labels, columns, negatives, timeUnit = 's' } = options;
  if (!(timeUnit in perSecond)) fail('timeUnit', `expected ${Object.keys(perSecond).join(', ')}, got ${String(timeUnit)}`);
  if (split.kind === 'time' && columns.time === undefined) fail('split', 'a split by time needs a time column', `Name it (${named('columns.time')}), or split by leave-last-fraction where the log has only an order`);
  if (split.kind === 'time' && 'fractions' in split && (split.fractions.some((f) => !(f >= 0)) || Math.abs(split.fractions.reduce((a, b) => a + b) - 1) > 1e-6))
    fail('split.fractions', 'expected three parts that add up to 1');
  if (split.kind === 'time' && !('fractions' in split) && !(split.testFrom >= (split.validFrom ?? -Infinity))) fail('split.validFrom', 'valid must begin before test');
  if (split.kind !== 'time' && (!(split.valid >= 0) || !(split.test >= 0) || (split.kind === 'leave-last-fraction' && split.valid + split.test >= 1)))
    fail('split', 'valid and test must be positive and leave something to train on');
  if (negatives?.kind === 'popularity' && (!Number.isSafeInteger(negatives.perPositive) || negatives.perPositive < 1)) fail('negatives.perPositive', 'expected a whole number of at least 1');

  const rule = (option: string, { kind, ...rest }: EventRule): void => {
    const given = rest as Readonly<Record<string, unknown>>;
    if (given['column'] === undefined && (kind === 'value' ? columns.value : columns.action) === undefined)
      fail(option, `it goes by the ${kind} of an event, and no column of ${kind}s is named`, `Name it (${named(`columns.${kind}`)})`);
    if (kind === 'action') {
      const { positive } = given;
      if (!Array.isArray(positive) || positive.length === 0 || positive.some((a) => typeof a !== 'string' || a === '')) fail(option, 'expected a list of texts', 'Name at least one');
      else if (new Set(positive).size < positive.length) fail(option, `${JSON.stringify(positive.find((a, i) => positive.indexOf(a) < i))} is named twice`, 'Name it once');
      return;
    }
    const bounds = boundKinds.filter((k) => k in given);
    if (bounds.length !== 1) fail(option, `expected one of ${boundKinds.join(', ')}, got ${bounds.join(' and ') || 'none'}`);
    if (typeof given[bounds[0]!] !== 'number' || !Number.isFinite(given[bounds[0]!])) fail(option, `expected a finite number, got ${String(given[bounds[0]!])}`);
  };
  if (options.history) rule('history', options.history);
  const tasks = Object.entries(labels ?? {});
  if (tasks.length === 0) fail('labels', 'no label is named', `Say what is positive (${named('labels')}), or sample negatives (${named('negatives')})`);
  for (const [i, [task, label]] of tasks.entries()) {
    const option = `labels.${task}`;
    if (task === '') fail('labels', 'a task has no name');
    const twin = tasks.slice(0, i).find(([other]) => other.toLowerCase() === task.toLowerCase());
    if (twin) fail(option, `the tasks ${JSON.stringify(twin[0])} and ${JSON.stringify(task)} differ in case only`, 'Name one of them otherwise');
    if (!['all', 'value', 'action'].includes(label.kind)) fail(`${option}.kind`, `expected all, value or action, got ${String(label.kind)}`);
    if (label.kind !== 'all') rule(option, label);
    else if (negatives?.kind !== 'popularity') fail(option, 'with every event positive, negatives must be sampled', `Sample them (${named('negatives')}), or say what is positive (${named('labels')})`);
  }
}
