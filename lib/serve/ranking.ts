import { LongerError } from '../errors.ts';
import type { Schema } from '../schema/schema.ts';

export interface RankResult {
  /** Version of the model that gave every one of these scores. */
  readonly model: string;
  /** `grown`: the cache of a shorter history was found, and what is new was added to it. */
  readonly cache: 'hit' | 'grown' | 'miss';
  /** Places in the candidate list, best first; equal scores in list order. */
  readonly index: Int32Array;
  /** Logits of each task in the order of `index`; sigmoid makes them probabilities. */
  readonly logits: Readonly<Record<string, Float32Array>>;
}

/** A task that is asked for, and its place in a row of logits. */
export type WantedTask = readonly [name: string, place: number];

/**
 * @param names default: all tasks of the schema, in its order
 * @throws LongerError ERR_DATA for a name that the schema does not have, or none at all
 */
export function wantedTasks(schema: Schema, names: readonly string[] | undefined): readonly WantedTask[] {
  if (names === undefined) return schema.tasks.map(({ name }, t) => [name, t]);
  if (!Array.isArray(names) || names.length === 0) throw new LongerError('ERR_DATA', 'expected a list of task names', { place: 'tasks' });
  return (names as readonly string[]).map((name) => {
    const t = schema.tasks.findIndex((task) => task.name === name);
    if (t < 0) throw new LongerError('ERR_DATA', `there is no task '${name}'; known are ${schema.tasks.map((task) => task.name).join(', ')}`, { place: 'tasks' });
    return [name, t];
  });
}

/**
 * Candidates by the first task that is wanted, best first.
 * @param logits [candidates, tasks]
 */
export function ranked(logits: Float32Array, tasks: number, wanted: readonly WantedTask[], topK?: number): Pick<RankResult, 'index' | 'logits'> {
  const by = wanted[0]![1];
  const index = Int32Array.from({ length: logits.length / tasks }, (_, i) => i)
    .sort((a, b) => logits[b * tasks + by]! - logits[a * tasks + by]! || a - b)
    .slice(0, topK);
  return { index, logits: Object.fromEntries(wanted.map(([name, t]) => [name, Float32Array.from(index, (i) => logits[i * tasks + t]!)])) };
}
