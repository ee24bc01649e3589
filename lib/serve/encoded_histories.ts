import { encodeRequest, type EncodedRequest } from '../schema/encode.ts';
import { Schema } from '../schema/schema.ts';
import type { StoredEvent, StoredHistory } from './history_store.ts';

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

/** Stored histories that were read lately, encoded once while they stay the same object. Bounded by events; what was used longest ago leaves first. */
export class EncodedHistories {
  readonly #encode: ReturnType<typeof eventEncoder>;
  readonly #most: number;
  readonly #users = new Map<string, { readonly stored: StoredHistory; readonly encoded: EncodedEvents }>();
  #events = 0;

  constructor(schema: Schema, most: number) {
    this.#encode = eventEncoder(schema);
    this.#most = most;
  }

  of(user: string, stored: StoredHistory): EncodedEvents {
    const known = this.#users.get(user);
    if (known) this.#forget(user, known.encoded);
    const encoded = known?.stored === stored ? known.encoded : this.#encode(stored.events, stored.dropped);
    this.#users.set(user, { stored, encoded });
    this.#events += encoded.events;
    for (const [other, { encoded: old }] of this.#users) {
      if (this.#events <= this.#most) break;
      this.#forget(other, old);
    }
    return encoded;
  }

  #forget(user: string, { events }: EncodedEvents): void {
    this.#users.delete(user);
    this.#events -= events;
  }
}
