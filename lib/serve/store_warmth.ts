import { LongerError } from '../errors.ts';
import type { Warmable } from '../rank/warmable.ts';
import { encodeCandidates, unknownSide } from '../schema/encode.ts';
import type { Schema } from '../schema/schema.ts';
import type { EncodedHistories } from './encoded_histories.ts';
import type { HistoryStore } from './history_store.ts';
import type { RankServiceOptions } from './rank_options.ts';
import type { ServedModel } from './served_model.ts';

/** What a start from a history store has made ready. */
export interface Warmth {
  /** Whose histories were read. */
  readonly users: number;
  /** Caches that were made. */
  readonly caches: number;
  readonly milliseconds: number;
  /** What the store ended it with, before all was done or the time was over. */
  readonly failed: Error | undefined;
}

/** Reads the histories of the users ranked last and makes their caches, as `RankService.warm` says. */
export async function warmFromStore(
  store: HistoryStore | undefined, model: ServedModel, encoded: EncodedHistories, { warmup, encodedEvents }: RankServiceOptions, stopped: () => boolean,
): Promise<Warmth> {
  const from = performance.now();
  let [users, events, caches] = [0, 0, 0];
  let failed: Error | undefined;
  const counted = async function* (): AsyncGenerator<Warmable> {
    try {
      for await (const history of store ? storedHistories(store, model.ranker.model.schema, encoded) : []) {
        ++users;
        yield history;
      }
    } catch (error) {
      failed = error as Error;
    }
  };
  const leave = model.enter();
  try {
    if (model.pages.grows) caches = await model.warm(counted(), { share: 0.9, milliseconds: warmup, stopped });
    else for await (const { request } of counted()) if ((events += request.events) >= encodedEvents || stopped() || performance.now() >= from + warmup) break;
  } finally {
    leave();
  }
  return { users, caches, milliseconds: performance.now() - from, failed };
}

/** As requests of which no more is known. A history that does not fit the schema is left out: its user's call will say what is wrong with it. */
async function* storedHistories(store: HistoryStore, schema: Schema, encoded: EncodedHistories): AsyncGenerator<Warmable> {
  const unknown = { ...encodeCandidates(schema, [] as never), id: undefined, user: unknownSide(schema.sides.user), context: unknownSide(schema.sides.context) };
  for (const owner of (await store.rankedLast?.()) ?? []) {
    const stored = await store.read(owner);
    if (stored.events.length === 0) continue;
    try {
      const events = encoded.of(owner, stored);
      yield { owner, request: { ...unknown, userKey: owner, time: events.eventTime.at(-1) ?? 0, ...events } };
    } catch (error) {
      if (!(error instanceof LongerError && error.code === 'ERR_DATA')) throw error;
    }
  }
}
