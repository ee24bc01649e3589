import { batches } from '../data/batches.ts';
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
  readonly onStep?: (report: StepReport, position: Position) => void | Promise<void>;
  readonly onEpoch?: (epoch: number) => void | Promise<void>;
  readonly signal?: AbortSignal;
}

/** Trains over the epochs of the trainer's options, from a position on. Batches depend on seed, epoch and source alone. */
export async function fit(trainer: Trainer, source: Source, from: Position = { epoch: 0, batch: 0 }, hooks: FitHooks = {}): Promise<void> {
  const { epochs, batch, shuffleWindow, seed } = trainer.options;
  const schema = trainer.model.schema;
  for (let epoch = from.epoch; epoch < epochs; ++epoch) {
    let done = epoch === from.epoch ? from.batch : 0;
    const made = batches(schema, source, { ...batch, maxHistory: trainer.model.config.maxHistory, shuffleWindow, seed, epoch, skip: done });
    for await (const b of made) {
      const report = await trainer.train(b, hooks.signal);
      await hooks.onStep?.(report, { epoch, batch: ++done });
    }
    await hooks.onEpoch?.(epoch);
  }
}

/** Batches that the epochs hold in all, by packing without training: what the schedule needs to know. */
export async function countSteps(trainer: Trainer, source: Source): Promise<number> {
  const { epochs, batch } = trainer.options;
  const limit = trainer.model.config.maxHistory;
  let steps = 0;
  let requests = 0;
  let events = 0;
  for await (const request of source) {
    const n = Math.min(request.events, limit);
    if (requests > 0 && (requests >= batch.maxRequests || events + n > batch.maxEvents)) {
      steps++;
      requests = 0;
      events = 0;
    }
    requests++;
    events += n;
  }
  // Another order packs a little differently; the schedule only needs the size of it.
  return Math.ceil((steps + (requests > 0 ? 1 : 0)) * epochs);
}
