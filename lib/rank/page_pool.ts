import { LongerError } from '../errors.ts';
import { DeviceArray, DeviceMemory } from '../native/device_array.ts';
import type { Runtime } from '../native/runtime.ts';

/**
 * Pages of equal size in one block of memory, on a device or not, that is allocated up front. A page belongs to everyone who took or shares it; the last to release it
 * gives it back. Who writes to a page must be its only holder.
 */
export class PagePool {
  readonly pages: number;
  readonly pageBytes: number;
  /** The block as numbers of each type: page i begins at i * pageBytes. */
  readonly f32: DeviceArray;
  readonly bf16: DeviceArray;
  readonly f16: DeviceArray;
  readonly i32: DeviceArray;
  readonly memory: DeviceMemory;
  readonly #holders: Uint32Array;
  /** Free pages, the next to be taken last. */
  readonly #free: Int32Array;
  #freeCount: number;

  /**
   * @param bytes budget; whole pages of it are used
   * @param runtime on whose device the block is; default: memory of this process
   * @throws LongerError ERR_CONFIG for a budget below one page or sizes that are no whole numbers, ERR_MEMORY where the block cannot be had
   */
  constructor(bytes: number, pageBytes: number, runtime?: Runtime) {
    if (!Number.isSafeInteger(pageBytes) || pageBytes < 4 || pageBytes % 4 !== 0) throw new LongerError('ERR_CONFIG', `expected a multiple of 4 bytes, got ${pageBytes}`, { place: 'pageBytes' });
    if (!Number.isSafeInteger(bytes) || bytes < pageBytes) throw new LongerError('ERR_CONFIG', `expected at least one page of ${pageBytes} bytes, got ${bytes}`, { place: 'bytes', remedy: 'Give whole bytes, for all pages together' });
    this.pages = Math.floor(bytes / pageBytes);
    this.pageBytes = pageBytes;
    try {
      this.memory = new DeviceMemory(this.pages * pageBytes, runtime);
      this.f32 = new DeviceArray(this.memory, 'f32', 0, this.memory.bytes / 4);
      this.bf16 = new DeviceArray(this.memory, 'bf16', 0, this.memory.bytes / 2);
      this.f16 = new DeviceArray(this.memory, 'f16', 0, this.memory.bytes / 2);
      this.i32 = new DeviceArray(this.memory, 'i32', 0, this.memory.bytes / 4);
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

  /** Copies the bytes of each first page to the second. */
  copy(pages: readonly (readonly [from: number, to: number])[]): void {
    this.memory.copy(pages.map(([from, to]) => [from * this.pageBytes, to * this.pageBytes]), this.pageBytes);
  }
}
