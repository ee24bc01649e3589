import { expectOptions } from '../schema/given.ts';
import type { Schema } from '../schema/schema.ts';
import { checkLimit, checkOrder, checkUser, eventCheck, type StoredEvent } from './stored_events.ts';

export interface StoredHistory {
  readonly events: readonly StoredEvent[];
  /** Older events that the user had and that are kept no more: a model that counts from the oldest needs to know. */
  readonly dropped: number;
}

/** Histories by user, oldest event first. Every call may fail with ERR_UNAVAILABLE where the store is another process. */
export interface HistoryStore {
  /** No events for a user that is not known. @throws LongerError ERR_DATA for a user that is no text */
  read(user: string): Promise<StoredHistory>;
  /** @returns events that the user has now. @throws LongerError ERR_DATA for events that do not fit the schema or lie before the last one */
  append(user: string, events: readonly StoredEvent[]): Promise<number>;
  /** @throws LongerError ERR_DATA for events that do not fit the schema */
  replace(user: string, events: readonly StoredEvent[]): Promise<number>;
  /** @returns whether there was a history */
  delete(user: string): Promise<boolean>;
  /** Notes that these users were ranked, the last one last. A store that outlives the process has it: who was ranked last is warm first after a restart. */
  ranked?(users: readonly string[]): Promise<void>;
  /** @returns the users that were ranked last, the last one first, as far as they are noted */
  rankedLast?(): Promise<readonly string[]>;
}

export interface HistoryLimits {
  /** Newest events of a user that are kept. */
  readonly maxEvents: number;
  /** Users that are kept; the one written longest ago leaves first. */
  readonly maxUsers: number;
}

/** Histories in this process: gone when it ends. */
export class MemoryHistoryStore implements HistoryStore {
  readonly #check: (events: readonly StoredEvent[]) => readonly StoredEvent[];
  readonly #time: boolean;
  readonly #limits: HistoryLimits;
  /** In order of writing. */
  readonly #users = new Map<string, StoredHistory>();

  /** @throws LongerError ERR_CONFIG for a limit that is no whole number of at least 1 */
  constructor(schema: Schema, limits: Partial<HistoryLimits> = {}) {
    expectOptions(limits, ['maxEvents', 'maxUsers'], 'MemoryHistoryStore');
    this.#check = eventCheck(schema);
    this.#time = schema.time;
    this.#limits = { maxEvents: 10_000, maxUsers: 100_000, ...limits };
    for (const name of ['maxEvents', 'maxUsers'] as const) checkLimit(name, this.#limits[name]);
  }

  get users(): number {
    return this.#users.size;
  }

  async read(user: string): Promise<StoredHistory> {
    checkUser(user, 'user');
    return this.#users.get(user) ?? nothing;
  }

  async append(user: string, given: readonly StoredEvent[]): Promise<number> {
    const events = this.#check(given);
    const before = this.#users.get(user) ?? nothing;
    if (this.#time) checkOrder(before.events.at(-1), events[0]);
    return this.#write(user, [...before.events, ...events], before.dropped);
  }

  async replace(user: string, events: readonly StoredEvent[]): Promise<number> {
    return this.#write(user, this.#check(events), 0);
  }

  delete(user: string): Promise<boolean> {
    return Promise.resolve(this.#users.delete(user));
  }

  #write(user: string, events: readonly StoredEvent[], dropped: number): number {
    checkUser(user, 'user');
    const { maxEvents, maxUsers } = this.#limits;
    const kept = events.slice(-maxEvents);
    this.#users.delete(user);
    this.#users.set(user, { events: kept, dropped: dropped + events.length - kept.length });
    if (this.#users.size > maxUsers) this.#users.delete(this.#users.keys().next().value!);
    return kept.length;
  }
}

const nothing: StoredHistory = { events: [], dropped: 0 };
