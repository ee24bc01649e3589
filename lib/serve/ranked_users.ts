import type { HistoryStore } from './history_store.ts';

/** Milliseconds between two notes: what a process that is killed may lose. */
const every = 1000;

/** Has a history store note who was ranked, at most once a second. A note that cannot be written is tried again with the next. */
export class RankedUsers {
  readonly #store: HistoryStore | undefined;
  /** The last one ranked last. */
  #users = new Set<string>();
  #timer: NodeJS.Timeout | undefined;

  constructor(store: HistoryStore | undefined) {
    this.#store = store?.ranked ? store : undefined;
  }

  add(user: string): void {
    if (!this.#store) return;
    this.#users.delete(user);
    this.#users.add(user);
    this.#timer ??= setTimeout(() => void this.#write(), every).unref();
  }

  /** Writes what is not written yet. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#write();
  }

  async #write(): Promise<void> {
    const users = this.#users;
    this.#users = new Set();
    this.#timer = undefined;
    if (users.size === 0) return;
    try {
      await this.#store!.ranked!([...users]);
    } catch {
      this.#users = new Set([...users, ...this.#users].slice(-most)); // the store is away; a call that needs it says so
    }
  }
}

/** Users that wait to be noted. */
const most = 10_000;
