import type { EncodedEvents } from '../schema/encode.ts';
import type { Schema } from '../schema/schema.ts';
import type { StoredHistory } from './history_store.ts';
import { Recent } from './recent.ts';
import { type EventEncoder, eventEncoder } from './stored_events.ts';

interface Known {
  readonly stored: StoredHistory;
  readonly encoded: EncodedEvents;
}

/** Stored histories that were read lately, encoded once while they stay the same object; of one that grew, what is new. Bounded by events. */
export class EncodedHistories {
  readonly #encode: EventEncoder;
  readonly #users: Recent<Known>;

  constructor(schema: Schema, most: number) {
    this.#encode = eventEncoder(schema);
    this.#users = new Recent(most);
  }

  of(user: string, stored: StoredHistory): EncodedEvents {
    const known = this.#users.get(user);
    if (known?.stored === stored) return known.encoded;
    const dropped = known && goesOn(known.stored, stored);
    const encoded = known && dropped !== undefined
      ? this.#encode(stored.events.slice(known.stored.events.length - dropped), stored.dropped, { events: known.encoded, dropped })
      : this.#encode(stored.events, stored.dropped);
    this.#users.set(user, { stored, encoded }, encoded.events);
    return encoded;
  }
}

/** How many of the older history's first events a newer one dropped, if it has all the others, the same objects, and maybe more. */
function goesOn(past: StoredHistory, now: StoredHistory): number | undefined {
  const dropped = now.dropped - past.dropped;
  const kept = past.events.length - dropped;
  if (dropped < 0 || kept <= 0 || kept > now.events.length) return undefined;
  for (let i = 0; i < kept; ++i) if (past.events[dropped + i] !== now.events[i]) return undefined;
  return dropped;
}
