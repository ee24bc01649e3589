import { LongerError } from '../errors.ts';
import type { Chain } from '../model/pages_layout.ts';
import type { Runtime } from '../native/runtime.ts';
import type { Content, GroupHashes } from './content.ts';
import { contentBytes } from './content.ts';
import { PagePool } from './page_pool.ts';

/** Counters since the start, and what is held now. */
export interface PagedCacheStats {
  /** Requests whose cache was there. */
  readonly hits: number;
  /** Requests that went on from the cache of a shorter history. */
  readonly partialHits: number;
  readonly misses: number;
  /** Entries that left for others, and entries that were too old. */
  readonly evictions: number;
  readonly expired: number;
  readonly entries: number;
  /** Pages in all, and those that entries or running calls hold. */
  readonly pages: number;
  readonly pagesUsed: number;
  /** Bytes of the pages in use, of the pool, and of what entries keep beside it (encoded histories, rows of the head), which has a bound of its own. */
  readonly bytes: number;
  readonly budget: number;
  readonly bytesBeside: number;
  readonly budgetBeside: number;
}

export interface PagedCacheOptions {
  /** Bytes of all pages, allocated at once. */
  readonly bytes: number;
  /** Bytes of a page; default of a ranker's own cache: `defaultPageBytes`. Rows of every model that shares the cache must fit into it whole. */
  readonly pageBytes: number;
  /** Bytes that entries which nobody holds may keep beside the pages; default: a quarter of `bytes`, at least 1 MiB. */
  readonly besideBytes?: number;
  /** On whose device the pages are: that of the rankers; default: the CPU. */
  readonly runtime?: Runtime;
  /** Seconds after which an entry is not used any more; default: never. */
  readonly ttl?: number;
  /** Milliseconds, for tests. */
  readonly now?: () => number;
}

/** The cache of one history. It stays while somebody holds it. */
export interface CacheItem {
  /** Loaded model and owner. */
  readonly scope: string;
  readonly content: Content;
  readonly chain: Chain;
  /** What has one row a request, by cache name. */
  readonly single: ReadonlyMap<string, Float32Array | Uint16Array>;
}

interface Entry extends CacheItem {
  /** Its rolling hash. */
  readonly hash: number;
  readonly since: number;
  readonly beside: number;
  holders: number;
  gone: boolean;
}

/** What `hold` and `insert` give: release it exactly once; again does nothing. */
export class HeldItem {
  readonly item: CacheItem;
  #release: (() => void) | undefined;

  constructor(item: CacheItem, release: () => void) {
    this.item = item;
    this.#release = release;
  }

  get released(): boolean {
    return this.#release === undefined;
  }

  release(): void {
    this.#release?.();
    this.#release = undefined;
  }
}

/**
 * Caches of histories over one pool of pages, for one or several models. Entries leave when they are used longest ago (LRU) or too old; never one that
 * is held. Pages are counted by their holders: a cache that grew out of another shares with it what did not change.
 */
export class PagedCache implements Disposable {
  readonly pool: PagePool;
  readonly #ttl: number;
  readonly #now: () => number;
  readonly #budgetBeside: number;
  /** In order of use, the newest last. */
  readonly #entries = new Set<Entry>();
  /** Those of them that another went on from: the first to leave. */
  readonly #outgrown = new Set<Entry>();
  /** By scope, then by the rolling hash at the entry's last whole group. */
  readonly #places = new Map<string, Map<number, Entry[]>>();
  #hits = 0;
  #partialHits = 0;
  #misses = 0;
  #evictions = 0;
  #expired = 0;
  #beside = 0;
  #disposed = false;

  /** @throws LongerError ERR_CONFIG for sizes that make no page or a time that is none, ERR_MEMORY where the budget cannot be had */
  constructor({ bytes, pageBytes, besideBytes = Math.max(bytes / 4, 2 ** 20), ttl = Infinity, runtime, now = () => performance.now() }: PagedCacheOptions) {
    if (typeof besideBytes !== 'number' || !(besideBytes >= 0)) throw new LongerError('ERR_CONFIG', `expected bytes, got ${String(besideBytes)}`, { place: 'besideBytes' });
    if (typeof ttl !== 'number' || !(ttl > 0)) throw new LongerError('ERR_CONFIG', `expected seconds above 0, got ${String(ttl)}`, { place: 'ttl' });
    this.pool = new PagePool(bytes, pageBytes, runtime);
    this.#ttl = ttl * 1000;
    this.#now = now;
    this.#budgetBeside = besideBytes;
  }

  /** Entries of the scope whose last whole group is one that these hashes have, the longest first, of those of a length the newest; those too old leave. */
  *candidates(scope: string, hashes: GroupHashes): Generator<CacheItem> {
    for (let group = hashes.last; group >= hashes.first && this.#places.has(scope); --group) yield* this.ending(scope, hashes.at(group));
  }

  /** Those that end at one hash, the newest first. */
  ending(scope: string, hash: number): readonly CacheItem[] {
    this.#live();
    const there = this.#places.get(scope)?.get(hash);
    if (!there) return [];
    const young: Entry[] = [];
    for (const entry of there) {
      if (this.#now() - entry.since < this.#ttl) young.unshift(entry);
      else {
        this.#remove(entry);
        this.#expired++;
      }
    }
    return young;
  }

  /** Holds an entry that `candidates` gave. */
  hold(item: CacheItem): HeldItem {
    const entry = item as Entry;
    if (!entry.gone) {
      this.#outgrown.delete(entry);
      this.#entries.delete(entry);
      this.#entries.add(entry);
    }
    entry.holders++;
    return new HeldItem(entry, () => {
      if (--entry.holders > 0) return;
      if (entry.gone) this.#free(entry);
      else this.#trim();
    });
  }

  /** Another entry went on from this one: it is the first to leave, until it is used again. */
  outgrow(item: CacheItem): void {
    const entry = item as Entry;
    if (!entry.gone) this.#outgrown.add(entry);
  }

  /** Entries whose scope begins so, used last first. */
  hottest(scope: string): CacheItem[] {
    return [...this.#entries].filter((e) => e.scope.startsWith(scope) && !this.#outgrown.has(e)).reverse();
  }

  count(outcome: 'hit' | 'partial' | 'miss'): void {
    if (outcome === 'hit') this.#hits++;
    else if (outcome === 'partial') this.#partialHits++;
    else this.#misses++;
  }

  /** Makes so many pages free, letting entries go that nobody holds. @returns false where the pages in use leave too few */
  makeRoom(pages: number): boolean {
    this.#live();
    this.#evict(() => this.pool.free >= pages);
    return this.pool.free >= pages;
  }

  /** The same. @throws LongerError ERR_MEMORY where the pages in use leave too few */
  reserve(pages: number): void {
    if (this.makeRoom(pages)) return;
    const { pages: all, pageBytes, free } = this.pool;
    throw new LongerError('ERR_MEMORY', `${pages} pages are needed, ${free} of ${all} (${pageBytes} bytes each) are free, the others held`, {
      place: 'paged cache', remedy: pages > all ? 'Give the cache a larger budget, or prefill fewer requests at once' : 'Give the cache a larger budget, or release caches sooner',
    });
  }

  /** Takes a chain's pages over, and holds the entry. */
  insert(item: CacheItem, hashes: GroupHashes): HeldItem {
    const places = this.#places.get(item.scope) ?? new Map<number, Entry[]>();
    const hash = hashes.at(hashes.last);
    const entry: Entry = { ...item, hash, since: this.#now(), beside: besideBytes(item), holders: 0, gone: this.#disposed };
    if (!this.#disposed) {
      places.set(hash, [...(places.get(hash) ?? []), entry]);
      this.#places.set(item.scope, places);
      this.#entries.add(entry);
    }
    this.#beside += entry.beside;
    return this.hold(entry);
  }

  /** Makes every entry of a scope prefix (a model) unreachable at once; what is held lives until it is released. */
  drop(prefix: string): void {
    for (const entry of [...this.#entries]) if (entry.scope.startsWith(prefix)) this.#remove(entry);
  }

  stats(): PagedCacheStats {
    const { pages, free, pageBytes } = this.pool;
    return {
      hits: this.#hits, partialHits: this.#partialHits, misses: this.#misses, evictions: this.#evictions, expired: this.#expired, entries: this.#entries.size,
      pages, pagesUsed: pages - free, bytes: (pages - free) * pageBytes, budget: pages * pageBytes, bytesBeside: this.#beside, budgetBeside: this.#budgetBeside,
    };
  }

  dispose(): void {
    this[Symbol.dispose]();
  }

  /** No entry is reachable any more. The memory goes when the last call that holds one has ended. */
  [Symbol.dispose](): void {
    this.drop('');
    this.#disposed = true;
    this.#leave();
  }

  #leave(): void {
    if (this.#disposed && this.pool.free === this.pool.pages) this.pool.memory.dispose();
  }

  #live(): void {
    if (this.#disposed) throw new LongerError('ERR_DISPOSED', 'the paged cache was disposed');
  }

  #trim(): void {
    if (this.#beside > this.#budgetBeside) this.#evict(() => this.#beside <= this.#budgetBeside);
  }

  /** Lets entries go that nobody holds, those first that were outgrown, then those used longest ago, until it is enough. */
  #evict(enough: () => boolean): void {
    for (const entries of [this.#outgrown, this.#entries])
      for (const entry of entries) {
        if (enough()) return;
        if (entry.holders > 0) continue;
        this.#remove(entry);
        this.#evictions++;
      }
  }

  #remove(entry: Entry): void {
    this.#entries.delete(entry);
    this.#outgrown.delete(entry);
    const places = this.#places.get(entry.scope)!;
    const others = places.get(entry.hash)!.filter((e) => e !== entry);
    if (others.length > 0) places.set(entry.hash, others);
    else places.delete(entry.hash);
    if (places.size === 0) this.#places.delete(entry.scope);
    entry.gone = true;
    if (entry.holders === 0) this.#free(entry);
  }

  #free(entry: Entry): void {
    this.#beside -= entry.beside;
    for (const pages of entry.chain.pages.values()) for (const page of pages) this.pool.release(page);
    this.#leave();
  }
}

/** Of an entry's own objects, roughly: an entry without pages must not be free. */
const entryBytes = 1024;

function besideBytes({ content, single }: CacheItem): number {
  let bytes = entryBytes + contentBytes(content);
  for (const array of single.values()) bytes += array.byteLength;
  return bytes;
}
