import { LongerError } from '../errors.ts';
import { type CachePrecision, defaultPageBytes } from '../model/pages.ts';
import type { CacheItem, PagedCache } from '../rank/paged_cache.ts';
import { PagedRanker } from '../rank/paged_ranker.ts';
import { type Warmable, warmable } from '../rank/warmable.ts';
import type { Ranker } from '../rank/ranker.ts';
import { crossover } from './crossover.ts';
import { Retirable } from './retirable.ts';

let loaded = 0;

interface Warming {
  /** Of the pages. */
  readonly share: number;
  /** That it may take. */
  readonly milliseconds: number;
  readonly stopped: () => boolean;
  /** Waited for before each history. */
  readonly calm?: () => Promise<void>;
}

/** A ranker that serves, and its caches in pages. */
export class ServedModel extends Retirable {
  readonly ranker: Ranker;
  readonly pages: PagedRanker;
  /** Unique to this load: the same files loaded twice are two versions. */
  readonly version: string;
  #plainBelow: Promise<number> | undefined;

  /** @throws LongerError ERR_CONFIG where the cache does not hold a full history of this model */
  constructor(ranker: Ranker, name: string, cache: PagedCache, cachePrecision: CachePrecision) {
    const pages = new PagedRanker(ranker, { cache, cachePrecision });
    super(name, () => {
      pages.dispose();
      ranker.dispose();
    });
    this.ranker = ranker;
    this.pages = pages;
    this.version = `${++loaded}`;
  }

  /** Takes over what was measured of a model of the same sizes: measuring takes time from the calls. */
  measuredAs(other: ServedModel): void {
    const [{ model: a, precision: p }, { model: b, precision: q }] = [this.ranker, other.ranker];
    if (p === q && JSON.stringify(a.config) === JSON.stringify(b.config)) this.#plainBelow ??= other.#plainBelow;
  }

  /** Candidates below which the plain forward pass is faster where no cache is of use; measured once. */
  plainBelow(milliseconds: number): Promise<number> {
    if (this.#plainBelow) return this.#plainBelow;
    const leave = this.enter();
    return (this.#plainBelow = crossover(this.ranker, milliseconds).finally(leave));
  }

  /**
   * Makes caches before they are asked for, one history after another while nobody waits, until all are there, the share of the pages is taken,
   * no page is free or the time is over: else the next call of every user would be a prefill.
   * @param histories the one that is wanted most first
   * @returns caches that were made
   */
  async warm(histories: Iterable<Warmable> | AsyncIterable<Warmable>, { share, milliseconds, stopped, calm }: Warming): Promise<number> {
    const until = performance.now() + milliseconds;
    let pages = this.pages.cache.pool.pages * share;
    let made = 0;
    try {
      for await (const history of histories) {
        if (pages <= 0 || stopped() || performance.now() >= until) break;
        await calm?.();
        const taken = await this.pages.warm(history);
        pages -= taken;
        if (taken > 0) ++made;
      }
    } catch (error) {
      if (!outOfPages(error)) throw error; // calls in flight hold them all: it starts colder
    }
    return made;
  }
}

/** What the entries of the model that serves were made for, used last first, and then what is used meanwhile. */
export function* inUse(serving: () => ServedModel): Generator<Warmable> {
  const seen = new Set<CacheItem>();
  for (let added = true; added;) {
    added = false;
    const { pages, ranker } = serving();
    for (const item of pages.hottest()) {
      if (seen.has(item)) continue;
      seen.add(item);
      added = true;
      yield warmable(ranker.model.schema, item);
    }
  }
}

export const outOfPages = (error: unknown): boolean => error instanceof LongerError && error.code === 'ERR_MEMORY';

/** Whether a model's rows fill the pages of a cache as they would fill those of its own. */
export const fits = ({ model, precision }: Ranker, cache: PagedCache, cachePrecision: CachePrecision): boolean => defaultPageBytes(model, precision, cachePrecision) === cache.pool.pageBytes;
