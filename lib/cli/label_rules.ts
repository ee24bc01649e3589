import { InvalidArgumentError } from 'commander';
import type { LabelRule } from '../data/prepare_options.ts';

/** Labels as --label has them, by task: like=action:like,share · long=watch_ms>=30000 · seen=all */
export type Labels = Readonly<Record<string, LabelRule>>;

const form = "expected NAME=COLUMN:VALUE,VALUE or 'NAME=COLUMN>=NUMBER' (also >, <=, <) or NAME=all; in quotes, as a shell takes > and < for itself";
const bounds = { '>=': 'atLeast', '>': 'above', '<=': 'atMost', '<': 'below' } as const;

/** Adds a task to those that were named before. @throws InvalidArgumentError saying what is wrong with the text */
export function addLabel(text: string, before: Labels = {}): Labels {
  const equals = text.indexOf('=');
  const task = text.slice(0, equals).trim();
  if (equals < 0 || task === '') throw new InvalidArgumentError(form);
  if (/[<>:]/.test(task)) throw new InvalidArgumentError(`it names no task: write 'NAME=${text}', NAME being what the label is called`);
  if (Object.hasOwn(before, task)) throw new InvalidArgumentError(`the task '${task}' is named twice; give each task one rule, with all its values in one list`);
  return { ...before, [task]: ruleOf(text.slice(equals + 1).trim()) };
}

function ruleOf(text: string): LabelRule {
  if (text === 'all') return { kind: 'all' };
  const [, column = '', operator, rest = ''] = /^([^<>:]*)(>=|<=|>|<|:)(.*)$/s.exec(text)?.map((s) => s.trim()) ?? [];
  if (operator === undefined || column === '') throw new InvalidArgumentError(form);
  if (operator === ':') return { kind: 'action', column, positive: valuesOf(rest) };
  const bound = numberOf(rest, operator);
  return { kind: 'value', column, [bounds[operator as keyof typeof bounds]]: bound } as LabelRule;
}

/** @throws InvalidArgumentError */
export function valuesOf(text: string): string[] {
  const values = text.split(',').map((s) => s.trim());
  if (values.includes('')) throw new InvalidArgumentError(`a value is empty in '${text}'; expected values with commas between them`);
  return values;
}

/** @param after what the number stands behind @throws InvalidArgumentError */
export function numberOf(text: string, after?: string): number {
  const n = text.trim() === '' ? NaN : Number(text);
  if (!Number.isFinite(n)) throw new InvalidArgumentError(`expected a number${after === undefined ? '' : ` after ${after}`}, got '${text}'`);
  return n;
}
