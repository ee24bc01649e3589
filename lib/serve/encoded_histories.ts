import type { EncodedEvents } from '../schema/encode.ts';
import type { Schema } from '../schema/schema.ts';
import type { StoredHistory } from './history_store.ts';
import { Recent } from './recent.ts';
import { eventEncoder } from './stored_events.ts';

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
