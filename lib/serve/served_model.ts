import { defaultPageBytes } from '../model/pages.ts';
import type { PagedCache } from '../rank/paged_cache.ts';
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
}

/** Whether a model's rows fill the pages of a cache as they would fill those of its own. */
export const fits = ({ model, precision }: Ranker, cache: PagedCache): boolean => defaultPageBytes(model, precision) === cache.pool.pageBytes;
