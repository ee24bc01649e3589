import { encodeRequest, type EncodedRequest } from '../schema/encode.ts';
import { Schema } from '../schema/schema.ts';
import type { StoredEvent, StoredHistory } from './history_store.ts';
import { Recent } from './recent.ts';

/** The event side of a request. */
export type EncodedEvents = Pick<EncodedRequest, 'event' | 'events' | 'historyStart' | 'eventTime'>;

/** Checks events against the event side of a schema, whenever their request will be. @throws LongerError ERR_DATA, `history[3].item` standing last in its place */
export function eventEncoder(schema: Schema): (events: readonly StoredEvent[], historyStart?: number) => EncodedEvents {
  const { tables, event, labels, time } = schema.spec;
  const alone = new Schema({ ...(tables ? { tables } : {}), event, candidate: {}, labels, time });
  return (events, historyStart = 0) => {
    const { event, events: count, historyStart: start, eventTime } = encodeRequest(alone, { time: Number.MAX_VALUE, history: events, historyStart, candidates: [] } as never);
    return { event, events: count, historyStart: start, eventTime };
  };
}

/** Stored histories that were read lately, encoded once while they stay the same object. Bounded by events. */
export class EncodedHistories {
  readonly #encode: ReturnType<typeof eventEncoder>;
  readonly #users: Recent<{ readonly stored: StoredHistory; readonly encoded: EncodedEvents }>;

  constructor(schema: Schema, most: number) {
    this.#encode = eventEncoder(schema);
    this.#users = new Recent(most);
  }

  of(user: string, stored: StoredHistory): EncodedEvents {
    const known = this.#users.get(user);
    if (known?.stored === stored) return known.encoded;
    const encoded = this.#encode(stored.events, stored.dropped);
    this.#users.set(user, { stored, encoded }, encoded.events);
    return encoded;
  }
}
