import type { Batch } from '../data/batch.ts';
import { BatchFill, type RequestSize } from '../data/batch_limits.ts';
import { batches } from '../data/batches.ts';
import { Dataset } from '../data/reader.ts';
import { historyForm } from '../model/config.ts';
import type { EncodedRequest } from '../schema/encode.ts';
import type { StepReport, Trainer } from './trainer.ts';

/** A source that can be read again for every epoch: a Dataset, or a list. */
export type Source = AsyncIterable<EncodedRequest> | Iterable<EncodedRequest>;

export interface Position {
  readonly epoch: number;
  /** Batches of the epoch that are done. */
  readonly batch: number;
}

export interface FitHooks {
  /** Behind every step; the position is where a run goes on that saves now. The next step waits for the promise. */
  readonly onStep?: (report: StepReport, position: Position) => void | Promise<void>;
  /** Behind the last step of an epoch, counted from 0: the place for evaluations. */
  readonly onEpoch?: (epoch: number) => void | Promise<void>;
  /** Ends the run; the trainer is as the last step that was finished left it. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Trains over the epochs of the trainer's options, from a position on. Batches depend on seed, epoch and source alone, so a run that goes on from a checkpoint
 * (`trainer.restore`, and the position of the last `onStep` that was saved with it) gives the bits of one that was never interrupted.
 * Set `trainer.totalSteps`, which `countSteps` counts, before: without, a cosine schedule stays at its peak.
 * @throws LongerError what `Trainer.train` and the source throw; the reason of `hooks.signal` where it aborts
 */
export async function fit(trainer: Trainer, source: Source, from: Position = { epoch: 0, batch: 0 }, hooks: FitHooks = {}): Promise<void> {
  const { epochs, batch, shuffleWindow, seed } = trainer.options;
  const schema = trainer.model.schema;
  for (let epoch = from.epoch; epoch < epochs; ++epoch) {
    let done = epoch === from.epoch ? from.batch : 0;
    const made = batches(schema, source, { ...batch, ...historyForm(trainer.model.config), shuffleWindow, seed, epoch, skip: done });
    for await (const group of inGroups(made, trainer.options.accumulate)) {
      const report = await trainer.train(group, hooks.signal);
      await hooks.onStep?.(report, { epoch, batch: (done += group.length) });
    }
    await hooks.onEpoch?.(epoch);
  }
}

/** The batches of one step each; the last of an epoch may be fewer. */
async function* inGroups(made: AsyncIterable<Batch>, size: number): AsyncGenerator<Batch[]> {
  let group: Batch[] = [];
  for await (const b of made) {
    group.push(b);
    if (group.length < size) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}

/** Steps that the epochs hold in all, from the sizes of the requests: what the schedule needs to know (`trainer.totalSteps`). */
export async function countSteps(trainer: Trainer, source: Source): Promise<number> {
  const { epochs, batch, accumulate } = trainer.options;
  const fill = new BatchFill(batch, trainer.model.config.maxHistory);
  let full = 0;
  const sizes: AsyncIterable<RequestSize> | Iterable<RequestSize> = source instanceof Dataset ? source.sizes() : source;
  for await (const size of sizes) if (fill.add(size)) full++;
  // Another order packs a little differently; the schedule only needs the size of it.
  return Math.ceil(Math.ceil((full + (fill.empty ? 0 : 1)) / accumulate) * epochs);
}
