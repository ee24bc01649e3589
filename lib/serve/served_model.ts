import { LongerError } from '../errors.ts';
import { defaultPageBytes } from '../model/pages.ts';
import type { CacheItem, PagedCache } from '../rank/paged_cache.ts';
import { PagedRanker } from '../rank/paged_ranker.ts';
import type { Ranker } from '../rank/ranker.ts';
import { Retirable } from './retirable.ts';

let loaded = 0;

/** A ranker that serves, and its caches in pages. */
export class ServedModel extends Retirable {
  readonly ranker: Ranker;
  readonly pages: PagedRanker;
  /** Unique to this load: the same files loaded twice are two versions. */
  readonly version: string;

  /** @throws LongerError ERR_CONFIG where the cache does not hold a full history of this model */
  constructor(ranker: Ranker, name: string, cache: PagedCache) {
    const pages = new PagedRanker(ranker, { cache });
    super(name, () => {
      pages.dispose();
      ranker.dispose();
    });
    this.ranker = ranker;
    this.pages = pages;
    this.version = `${++loaded}`;
  }

  /**
   * Makes caches before it serves, one history after another between the batches of others, the one ranked last first, until those of the model before
   * are there, half of the pages are taken, no page is free or the time is over: else the next call of every user would be a prefill.
   * @param hottest entries of the model before, used last first
   * @param milliseconds that it may take
   */
  async warm(hottest: () => readonly CacheItem[], milliseconds: number, stopped: () => boolean): Promise<void> {
    const until = performance.now() + milliseconds;
    let pages = this.pages.cache.pool.pages / 2;
    const seen = new Set<CacheItem>();
    try {
      for (let added = true; added;) {
        added = false;
        for (const item of hottest()) {
          if (pages <= 0 || stopped() || performance.now() >= until) return;
          if (seen.has(item)) continue;
          seen.add(item);
          added = true;
          pages -= await this.pages.warm(item);
        }
      }
    } catch (error) {
      if (!outOfPages(error)) throw error; // calls in flight hold them all: it starts colder
    }
  }
}

export const outOfPages = (error: unknown): boolean => error instanceof LongerError && error.code === 'ERR_MEMORY';

/** Whether a model's rows fill the pages of a cache as they would fill those of its own. */
export const fits = ({ model, precision }: Ranker, cache: PagedCache): boolean => defaultPageBytes(model, precision) === cache.pool.pageBytes;
