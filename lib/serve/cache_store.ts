import type { Prefilled } from '../rank/ranker.ts';

/** Counters since the start, and what is held now. */
export interface CacheStats {
  readonly hits: number;
  readonly misses: number;
  readonly evictions: number;
  readonly expired: number;
  /** Entries that were larger than the whole budget, or found it full of pinned ones. */
  readonly refused: number;
  readonly entries: number;
  readonly bytes: number;
  readonly budget: number;
}

/** A cache in use: what is pinned stays. Release it exactly once; again does nothing. */
export interface Pinned {
  readonly key: string;
  readonly value: Prefilled;
  release(): void;
}

/** Prefilled requests by key. A key names everything that the value depends on, so an entry is right or absent, never stale. */
export interface CacheStore {
  /** Pins what is there and counts a hit, or counts a miss. */
  acquire(key: string): Pinned | undefined;
  /** Pins what the owner's last insert of a group left, and counts nothing. */
  newest(group: string, owner: string): Pinned | undefined;
  /** Keeps a value where the budget allows, evicting what was used longest ago; pins it either way. */
  insert(key: string, group: string, value: Prefilled, bytes: number, owner?: string): Pinned;
  /** Makes an entry unreachable; it lives on while it is pinned. */
  remove(key: string): void;
  /** Makes every entry of a group (a model version) unreachable at once; pinned values live until they are released. */
  drop(group: string): void;
  stats(): CacheStats;
}

interface Entry {
  readonly key: string;
  readonly group: string;
  /** Group and owner, where it has one. */
  readonly owner: string | undefined;
  readonly value: Prefilled;
  readonly bytes: number;
  readonly since: number;
  pins: number;
  /** Dropped while pinned: its bytes count until the last release. */
  gone: boolean;
}

export interface LruOptions {
  /** Bytes of all entries together, pinned ones included. */
  readonly budget: number;
  /** Seconds after which an entry is no more used; default: never. */
  readonly ttl?: number;
  /** Milliseconds, for tests. */
  readonly now?: () => number;
}

/** The least recently used entries leave first; a pinned one never does. Bytes never exceed the budget. */
export class LruCacheStore implements CacheStore {
  readonly #budget: number;
  readonly #ttl: number;
  readonly #now: () => number;
  /** In order of use, the newest last. */
  readonly #entries = new Map<string, Entry>();
  /** The last entry of each owner. */
  readonly #newest = new Map<string, Entry>();
  #bytes = 0;
  #hits = 0;
  #misses = 0;
  #evictions = 0;
  #expired = 0;
  #refused = 0;

  constructor({ budget, ttl = Infinity, now = () => performance.now() }: LruOptions) {
    this.#budget = budget;
    this.#ttl = ttl * 1000;
    this.#now = now;
  }

  acquire(key: string): Pinned | undefined {
    const entry = this.#fresh(this.#entries.get(key));
    if (!entry) {
      this.#misses++;
      return undefined;
    }
    this.#hits++;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return this.#pin(entry);
  }

  newest(group: string, owner: string): Pinned | undefined {
    const entry = this.#fresh(this.#newest.get(ownerKey(group, owner)));
    return entry && this.#pin(entry);
  }

  insert(key: string, group: string, value: Prefilled, bytes: number, owner?: string): Pinned {
    this.remove(key);
    const entry: Entry = { key, group, owner: owner === undefined ? undefined : ownerKey(group, owner), value, bytes, since: this.#now(), pins: 0, gone: false };
    if (!this.#makeRoom(bytes)) {
      this.#refused++;
      return { key, value, release: () => undefined };
    }
    this.#entries.set(key, entry);
    if (entry.owner !== undefined) this.#newest.set(entry.owner, entry);
    this.#bytes += bytes;
    return this.#pin(entry);
  }

  remove(key: string): void {
    const entry = this.#entries.get(key);
    if (entry) this.#remove(entry);
  }

  drop(group: string): void {
    for (const entry of [...this.#entries.values()]) if (entry.group === group) this.#remove(entry);
  }

  stats(): CacheStats {
    return {
      hits: this.#hits, misses: this.#misses, evictions: this.#evictions, expired: this.#expired, refused: this.#refused,
      entries: this.#entries.size, bytes: this.#bytes, budget: this.#budget,
    };
  }

  #fresh(entry: Entry | undefined): Entry | undefined {
    if (!entry || this.#now() - entry.since < this.#ttl) return entry;
    this.#remove(entry);
    this.#expired++;
    return undefined;
  }

  #makeRoom(bytes: number): boolean {
    let free = this.#budget - this.#bytes;
    if (bytes <= free) return true;
    const leaving: Entry[] = [];
    for (const entry of this.#entries.values()) {
      if (free >= bytes) break;
      if (entry.pins > 0) continue;
      leaving.push(entry);
      free += entry.bytes;
    }
    if (free < bytes) return false;
    for (const entry of leaving) this.#remove(entry);
    this.#evictions += leaving.length;
    return true;
  }

  #remove(entry: Entry): void {
    this.#entries.delete(entry.key);
    if (entry.owner !== undefined && this.#newest.get(entry.owner) === entry) this.#newest.delete(entry.owner);
    entry.gone = true;
    if (entry.pins === 0) this.#bytes -= entry.bytes;
  }

  #pin(entry: Entry): Pinned {
    entry.pins++;
    let held = true;
    return {
      key: entry.key,
      value: entry.value,
      release: () => {
        if (!held) return;
        held = false;
        if (--entry.pins === 0 && entry.gone) this.#bytes -= entry.bytes;
      },
    };
  }
}

const ownerKey = (group: string, owner: string): string => `${group}\0${owner}`;
