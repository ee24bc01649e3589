import { LongerError } from '../errors.ts';
import { encodeRequest } from '../schema/encode.ts';
import { Schema } from '../schema/schema.ts';

/** An event as the schema types it, with its time where the schema has time. */
export type StoredEvent = Readonly<Record<string, unknown>>;

/** Histories by user, oldest event first. */
export interface HistoryStore {
  /** [] for a user that is not known. */
  read(user: string): Promise<readonly StoredEvent[]>;
  /** @returns events that the user has now. @throws LongerError ERR_DATA for events that do not fit the schema or lie before the last one */
  append(user: string, events: readonly StoredEvent[]): Promise<number>;
  /** @throws LongerError ERR_DATA for events that do not fit the schema */
  replace(user: string, events: readonly StoredEvent[]): Promise<number>;
  /** @returns whether there was a history */
  delete(user: string): Promise<boolean>;
}

export interface HistoryLimits {
  /** Newest events of a user that are kept. */
  readonly maxEvents: number;
  /** Users that are kept; the one written longest ago leaves first. */
  readonly maxUsers: number;
}

/** Histories in this process: gone when it ends. */
export class MemoryHistoryStore implements HistoryStore {
  readonly #check: (events: readonly StoredEvent[]) => void;
  readonly #time: boolean;
  readonly #limits: HistoryLimits;
  /** In order of writing. */
  readonly #users = new Map<string, readonly StoredEvent[]>();

  constructor(schema: Schema, limits: Partial<HistoryLimits> = {}) {
    this.#check = eventCheck(schema);
    this.#time = schema.time;
    this.#limits = { maxEvents: 10_000, maxUsers: 100_000, ...limits };
  }

  get users(): number {
    return this.#users.size;
  }

  read(user: string): Promise<readonly StoredEvent[]> {
    return Promise.resolve(this.#users.get(user) ?? []);
  }

  async append(user: string, events: readonly StoredEvent[]): Promise<number> {
    this.#check(events);
    const before = this.#users.get(user) ?? [];
    const [last, first] = [before.at(-1), events[0]];
    if (this.#time && last && first && Number(first['time']) < Number(last['time']))
      throw new LongerError('ERR_DATA', `time goes backwards: ${String(first['time'])} after ${String(last['time'])}`, {
        place: 'events[0].time', remedy: 'Events are appended oldest first; replace the history to correct it',
      });
    return this.#write(user, [...before, ...events]);
  }

  async replace(user: string, events: readonly StoredEvent[]): Promise<number> {
    this.#check(events);
    return this.#write(user, events);
  }

  delete(user: string): Promise<boolean> {
    return Promise.resolve(this.#users.delete(user));
  }

  #write(user: string, events: readonly StoredEvent[]): number {
    const { maxEvents, maxUsers } = this.#limits;
    const kept = events.slice(-maxEvents);
    this.#users.delete(user);
    this.#users.set(user, kept);
    if (this.#users.size > maxUsers) this.#users.delete(this.#users.keys().next().value!);
    return kept.length;
  }
}

/** Holds events to the event side of a schema. */
function eventCheck(schema: Schema): (events: readonly StoredEvent[]) => void {
  const { tables, event, labels, time } = schema.spec;
  const alone = new Schema({ ...(tables ? { tables } : {}), event, candidate: {}, labels, time });
  return (events) => {
    if (!Array.isArray(events)) throw new LongerError('ERR_DATA', 'expected a list of events', { place: 'events' });
    const last = (events as readonly StoredEvent[]).at(-1);
    encodeRequest(alone, { time: typeof last === 'object' && last !== null ? (last['time'] ?? 0) : 0, history: events, candidates: [] } as never, 'events');
  };
}
