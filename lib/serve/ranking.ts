import { LongerError } from '../errors.ts';
import type { Explanation } from '../rank/explainer.ts';
import { show } from '../schema/fail.ts';
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
  /** In the order of `index`, where they were asked for; events are places in the history that was given, or in the stored one. */
  readonly explanations?: readonly Explanation[];
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
  return (names as readonly string[]).map((name, i) => {
    const t = schema.tasks.findIndex((task) => task.name === name);
    if (t < 0) throw new LongerError('ERR_DATA', `there is no task ${show(name)}; known are ${schema.tasks.map((task) => task.name).join(', ')}`, { place: 'tasks' });
    if (i >= schema.tasks.length) throw new LongerError('ERR_DATA', 'a task is named twice', { place: 'tasks' });
    return [name, t];
  });
}

/**
 * Candidates by the first task that is wanted, best first.
 * @param logits [candidates, tasks]
 */
export function ranked(logits: Float32Array, tasks: number, wanted: readonly WantedTask[], topK?: number): Pick<RankResult, 'index' | 'logits'> {
  const index = order(logits, tasks, wanted[0]![1], topK);
  const of: Record<string, Float32Array> = {};
  for (const [name, t] of wanted) {
    const column = (of[name] = new Float32Array(index.length));
    for (let i = 0; i < column.length; ++i) column[i] = logits[index[i]! * tasks + t]!;
  }
  return { index, logits: of };
}

const places = 2 ** 21;

/** Places by descending logit. A number that holds both sorts natively: 32 bits that order as the floats do, then the place. */
function order(logits: Float32Array, tasks: number, by: number, topK = Infinity): Int32Array {
  const keys = new Float64Array(logits.length / tasks);
  if (keys.length > places) throw new LongerError('ERR_SHAPE', `${keys.length} candidates are more than the ${places} that can be ordered`);
  const bits = new Int32Array(logits.buffer, logits.byteOffset, logits.length);
  for (let i = 0; i < keys.length; ++i) {
    const b = bits[i * tasks + by]!;
    keys[i] = (b < 0 ? b + 2 ** 32 : 2 ** 31 - b) * places + i; // one zero: both are 2 ** 31
  }
  keys.sort();
  const index = new Int32Array(Math.min(keys.length, topK));
  for (let i = 0; i < index.length; ++i) index[i] = keys[i]! % places;
  return index;
}
