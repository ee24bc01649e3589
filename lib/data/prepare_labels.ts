import type { DuckDBConnection } from '@duckdb/node-api';
import { LongerError } from '../errors.ts';
import { nearest } from '../schema/suggest.ts';
import { rows } from './prepare_features.ts';
import { type LabelRule, type OptionNames, partNames, type PartStats, type PrepareOptions } from './prepare_options.ts';
import { identifier, literal, source } from './prepare_sql.ts';

/** A rule with the column of the log that it looks at, which is there. */
export interface ColumnRule {
  /** Its option: `labels.like`, or `history`. */
  readonly option: string;
  readonly rule: LabelRule;
  /** null where it looks at none. */
  readonly column: string | null;
  /** SQL column of raw: see `ruleSql`. */
  readonly name: string;
}

const columnOf = (rule: LabelRule, { columns }: PrepareOptions): string | null =>
  rule.kind === 'all' ? null : (rule.column ?? (rule.kind === 'value' ? columns.value : columns.action)!);

/** The tasks' rules, in their order. */
export const labelRules = (options: PrepareOptions): ColumnRule[] =>
  Object.entries(options.labels).map(([task, rule], i) => ({ option: `labels.${task}`, rule, column: columnOf(rule, options), name: `l${i}` }));

/** The rule of the events that enter histories, where there is one. */
export const historyRule = (options: PrepareOptions): ColumnRule | undefined =>
  options.history && { option: 'history', rule: options.history, column: columnOf(options.history, options), name: 'past' };

const operators = { atLeast: '>=', above: '>', atMost: '<=', below: '<' } as const;
export type BoundKind = keyof typeof operators;
export const boundKinds = Object.keys(operators) as BoundKind[];

const number = (column: string): string => `TRY_CAST(${identifier(column)} AS DOUBLE)`;
const text = (column: string): string => `CAST(${identifier(column)} AS VARCHAR)`;

/** Whether an event is positive, over the columns of the log: 0 or 1; for actions which one it is, from 1. NULL where a number is empty. */
export function ruleSql({ rule, column }: ColumnRule): string {
  if (rule.kind === 'all') return '1';
  if (rule.kind === 'value') {
    const kind = boundKinds.find((k) => k in rule)!;
    return `CAST(${number(column!)} ${operators[kind]} ${(rule as Partial<Record<BoundKind, number>>)[kind]!} AS INTEGER)`;
  }
  return `CASE ${text(column!)} ${rule.positive.map((action, i) => `WHEN ${literal(action)} THEN ${i + 1}`).join(' ')} ELSE 0 END`;
}

/** The first of the rules whose column holds something that is no number, by its place in the list; NULL where all are well. */
export function noNumberSql(rules: readonly ColumnRule[]): string {
  const cases = rules.flatMap(({ rule, column }, i) => (rule.kind === 'value' ? [`WHEN ${text(column!)} <> '' AND coalesce(isnan(${number(column!)}), true) THEN ${i}`] : []));
  return cases.length === 0 ? 'CAST(NULL AS INTEGER)' : `CASE ${cases.join(' ')} END`;
}

/**
 * Every action that a rule names has to be in the log.
 * @throws LongerError ERR_DATA that shows those that are
 */
export async function expectActions(connection: DuckDBConnection, path: string, rules: readonly ColumnRule[], named: OptionNames): Promise<void> {
  for (const { option, rule, column, name } of rules) {
    if (rule.kind !== 'action') continue;
    const found = new Set((await rows(connection, `SELECT DISTINCT ${name} AS nth FROM raw`)).map((r) => r['nth'] as number));
    const missing = rule.positive.find((_, i) => !found.has(i + 1));
    if (missing === undefined) continue;
    const there = (await rows(connection, `SELECT ${text(column!)} AS action FROM ${source(path)} WHERE ${identifier(column!)} IS NOT NULL GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1000`)).map((r) => String(r['action']));
    const guess = missing.length > 2 ? nearest(missing, there) : undefined; // any two numbers of one digit are near
    throw new LongerError('ERR_DATA', `${JSON.stringify(missing)} never occurs in the column ${JSON.stringify(column)}${guess === undefined ? '' : `; did you mean ${JSON.stringify(guess)}?`}`, {
      place: `${path}: ${named(option)}`, remedy: there.length === 0 ? 'The column is empty' : `It has ${there.slice(0, 20).join(', ')}${there.length > 20 ? ', ...' : ''}`,
    });
  }
}

/** One line for each task that has one kind of label alone to train on. */
export function labelWarnings({ tasks }: PartStats, named: OptionNames): string[] {
  return Object.entries(tasks).flatMap(([task, { labelled, positive }]) => {
    if (positive > 0 && positive < labelled) return [];
    const only = labelled === 0 ? 'no label' : `only ${positive === 0 ? 'zeros' : 'ones'} (${labelled} of them)`;
    return [`the task ${JSON.stringify(task)} has ${only} in the ${partNames[0]} part, from which nothing can be learned. Look at its rule (${named(`labels.${task}`)}) and at the split (${named('split')})`];
  });
}
