import { LongerError } from '../errors.ts';
import type { EncodedRequest } from '../schema/encode.ts';
import { expectOptions } from '../schema/given.ts';
import type { Schema } from '../schema/schema.ts';
import { type Batch, type HistoryForm, packBatch } from './batch.ts';
import { BatchFill, type BatchLimits } from './batch_limits.ts';
import { Random } from './random.ts';
import { turn } from './turns.ts';

export interface BatchOptions extends HistoryForm, BatchLimits {
  /** Requests among which the order is drawn; 0 or 1 keeps the order of the source. */
  readonly shuffleWindow?: number;
  readonly seed?: number;
  readonly epoch?: number;
  /** Batches to leave out at the start: where a run goes on. */
  readonly skip?: number;
}

/** Requests of a source in the order that a seed and an epoch give: drawn from a window that is filled as it empties. */
export async function* shuffled<T>(source: AsyncIterable<T> | Iterable<T>, window: number, seed: number, epoch: number): AsyncGenerator<T> {
  const rng = new Random(seed, 7_000_000 + epoch);
  const held: T[] = [];
  for await (const item of source) {
    if (held.length < window) {
      held.push(item);
      continue;
    }
    const at = rng.below(held.length);
    const out = held[at]!;
    held[at] = item;
    yield out;
  }
  yield* rng.shuffle(held);
}

/**
 * Ragged batches; the next one is made while the caller works on the last.
 * @param options the model's form (`historyForm(config)`) and the limits of a batch, as `TrainOptions.batch` has them
 * @throws LongerError ERR_CONFIG naming the option; what the source throws
 */
export async function* batches(schema: Schema, source: AsyncIterable<EncodedRequest> | Iterable<EncodedRequest>, options: BatchOptions): AsyncGenerator<Batch> {
  expectOptions(options, ['maxHistory', 'alignment', 'merge', 'position', 'timeGap', 'maxEvents', 'maxRequests', 'maxCandidates', 'shuffleWindow', 'seed', 'epoch', 'skip'], 'batches');
  for (const name of ['maxEvents', 'maxRequests', 'maxCandidates'] as const)
    if (!(typeof options[name] === 'number' && options[name] >= 1)) throw new LongerError('ERR_CONFIG', `expected a number of at least 1, got ${options[name]}`, { place: `batches: ${name}` });
  const { shuffleWindow = 0, seed = 1, epoch = 0, skip = 0 } = options;
  const ordered = shuffleWindow > 1 ? shuffled(source, shuffleWindow, seed, epoch) : source;
  const made = assemble(schema, ordered, options, skip);
  let next = made.next();
  try {
    for (;;) {
      const { value, done } = await next;
      if (done) return;
      next = made.next();
      // A rejection that comes while the caller works is thrown at the next turn, not lost.
      next.catch(() => undefined);
      yield value;
    }
  } finally {
    await made.return(); // a caller that leaves early closes the file
  }
}

async function* assemble(
  schema: Schema,
  source: AsyncIterable<EncodedRequest> | Iterable<EncodedRequest>,
  options: BatchOptions,
  skip: number,
): AsyncGenerator<Batch, void> {
  const fill = new BatchFill(options, options.maxHistory);
  let held: EncodedRequest[] = [];
  let number = 0;
  const flush = (): Batch | null => {
    const requests = held;
    held = [];
    return number++ < skip ? null : packBatch(schema, requests, options);
  };
  for await (const request of source) {
    await turn();
    if (fill.add(request)) {
      const batch = flush();
      if (batch) yield batch;
    }
    held.push(request);
  }
  if (held.length > 0) {
    const batch = flush();
    if (batch) yield batch;
  }
}
