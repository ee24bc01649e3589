import type { PagedEntry } from '../model/pages.ts';
import { type CacheRows, type Held, pagesOf, rowsOf } from '../model/pages_layout.ts';
import type { HeldItem } from './paged_cache.ts';

/** An entry to go on from, and what of it stays. */
export interface Growth {
  readonly from: HeldItem;
  readonly held: Held;
}

/** Where each page of a grown chain comes from: shared as it is, a copy (page >= 0), or empty. */
export function grownPages(rows: CacheRows, { from, held }: Growth, e: PagedEntry): { page: number; shared: boolean }[] {
  const p = e.pageRows;
  const now = rowsOf(rows, e);
  const { chain } = from.item;
  const before = rowsOf(chain.rows, e);
  const pages = chain.pages.get(e.name)!;
  const valid = e.ofKeys ? [[now.first, held.known.from] as const] : held.asking;
  const base = Math.floor(now.first / p);
  return Array.from({ length: pagesOf(now, p) }, (_, i) => {
    const [low, high] = [Math.max(now.first, (base + i) * p), Math.min(now.first + now.count, (base + i + 1) * p)];
    const kept = valid.reduce((n, [a, b]) => n + Math.max(0, Math.min(b, high) - Math.max(a, low)), 0);
    if (kept === 0) return { page: -1, shared: false };
    return { page: pages[base + i - Math.floor(before.first / p)]!, shared: kept === high - low };
  });
}
