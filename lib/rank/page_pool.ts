import { LongerError } from '../errors.ts';
import { createMemory } from '../native/plan.ts';

/**
 * Pages of equal size in one block of memory that is allocated up front. A page belongs to everyone who took or shares it; the last to release it
 * gives it back. Who writes to a page must be its only holder.
 */
export class PagePool {
  readonly pages: number;
  readonly pageBytes: number;
  /** The block as numbers of either type: page i begins at i * pageBytes. */
  readonly f32: Float32Array;
  readonly bf16: Uint16Array;
  readonly #holders: Uint32Array;
  /** Free pages, the next to be taken last. */
  readonly #free: Int32Array;
  #freeCount: number;

  /**
   * @param bytes budget; whole pages of it are used
   * @throws LongerError ERR_CONFIG for a budget below one page or sizes that are no whole numbers, ERR_MEMORY where the block cannot be had
   */
  constructor(bytes: number, pageBytes: number) {
    if (!Number.isSafeInteger(pageBytes) || pageBytes < 4 || pageBytes % 4 !== 0) throw new LongerError('ERR_CONFIG', `expected a multiple of 4 bytes, got ${pageBytes}`, { place: 'pageBytes' });
    if (!Number.isSafeInteger(bytes) || bytes < pageBytes) throw new LongerError('ERR_CONFIG', `expected at least one page of ${pageBytes} bytes, got ${bytes}`, { place: 'bytes', remedy: 'Give whole bytes, for all pages together' });
    this.pages = Math.floor(bytes / pageBytes);
    this.pageBytes = pageBytes;
    let block: ArrayBuffer;
    try {
      block = createMemory(this.pages * pageBytes);
      this.f32 = new Float32Array(block);
      this.bf16 = new Uint16Array(block);
    } catch (cause) {
      throw new LongerError('ERR_MEMORY', `${bytes} bytes for pages could not be had`, { place: 'bytes', remedy: 'Give the cache a smaller budget', cause });
    }
    this.#holders = new Uint32Array(this.pages);
    this.#free = Int32Array.from({ length: this.pages }, (_, i) => this.pages - 1 - i);
    this.#freeCount = this.pages;
  }

  get free(): number {
    return this.#freeCount;
  }

  /** A page of one's own. There must be a free one. */
  take(): number {
    if (this.#freeCount === 0) throw new LongerError('ERR_MEMORY', 'no page is free', { place: 'page pool' });
    const page = this.#free[--this.#freeCount]!;
    this.#holders[page] = 1;
    return page;
  }

  /** Becomes one more holder of a page that somebody holds. */
  share(page: number): number {
    this.#holders[page]!++;
    return page;
  }

  release(page: number): void {
    if (this.#holders[page] === 0) throw new Error(`page ${page} is released more often than it was taken`);
    if (--this.#holders[page]! === 0) this.#free[this.#freeCount++] = page;
  }

  holders(page: number): number {
    return this.#holders[page]!;
  }

  /** Copies the bytes of a page. */
  copy(from: number, to: number): void {
    const words = this.pageBytes / 2;
    this.bf16.copyWithin(to * words, from * words, (from + 1) * words);
  }
}
