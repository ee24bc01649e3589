import { LongerError } from '../errors.ts';
import type { ChosenDevice } from './device.ts';
import { arrayTypes, elementBytes } from './dtype.ts';
import { loadNative } from './load.ts';
import type { Runtime } from './runtime.ts';
import { disposed, native } from './translated.ts';
import type { DeviceArraySpec, MemoryHandle } from './types.ts';

export type DeviceArrayType = 'f32' | 'bf16' | 'f16' | 'i32';
type Values = Float32Array | Uint16Array | Int32Array;

/** Arrays in a block of memory begin at multiples of so many bytes. */
const alignment = 256;
const bytesOf = (dtype: DeviceArrayType, length: number): number => length * elementBytes[dtype];

/**
 * A block of zeroed memory on a runtime's device: what runs write there stays there for the next ones. Of a runtime without a device, memory of this
 * process. It goes back when it is disposed or collected, and no run under way uses it.
 */
export class DeviceMemory implements Disposable {
  readonly bytes: number;
  /** Whose memory it is. */
  readonly device: ChosenDevice;
  #host: ArrayBuffer | undefined;
  #handle: MemoryHandle | undefined;

  /** @throws LongerError ERR_MEMORY where it cannot be had */
  constructor(bytes: number, runtime?: Runtime) {
    this.bytes = bytes;
    this.device = runtime?.device ?? 'cpu';
    if (!runtime || runtime.device === 'cpu') this.#host = native(() => loadNative().createMemory(bytes));
    else this.#handle = native(() => loadNative().createDeviceMemory(runtime.handle, bytes));
  }

  /** One block for arrays that are made and go together. */
  static arrays(runtime: Runtime, shapes: ReadonlyMap<string, { readonly dtype: DeviceArrayType; readonly length: number }>): { readonly memory: DeviceMemory; readonly arrays: Map<string, DeviceArray> } {
    let bytes = 0;
    const offsets = [...shapes.values()].map(({ dtype, length }) => {
      const at = bytes;
      bytes += Math.ceil(bytesOf(dtype, length) / alignment) * alignment;
      return at;
    });
    const memory = new DeviceMemory(bytes, runtime);
    return { memory, arrays: new Map([...shapes].map(([name, { dtype, length }], i) => [name, new DeviceArray(memory, dtype, offsets[i]!, length)])) };
  }

  /** Copies so many bytes within the block for each pair of offsets, from and to, which do not overlap. */
  copy(pairs: readonly (readonly [from: number, to: number])[], bytes: number): void {
    if (pairs.length === 0) return;
    if (this.#handle) {
      const handle = this.#handle;
      native(() => { loadNative().copyDeviceMemory(handle, Float64Array.from(pairs.flat()), bytes); });
      return;
    }
    const all = new Uint8Array(this.#live(this.#host));
    for (const [from, to] of pairs) all.copyWithin(to, from, from + bytes);
  }

  dispose(): void {
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    if (this.#handle) loadNative().freeDeviceMemory(this.#handle);
    this.#handle = undefined;
    this.#host = undefined;
  }

  /** @internal What a run is given of it. */
  part(dtype: DeviceArrayType, offset: number, length: number): Values | DeviceArraySpec {
    if (this.#handle) return { memory: this.#handle, dtype, offset, length };
    return new arrayTypes[dtype](this.#live(this.#host), offset, length);
  }

  /** @internal Copies numbers out of (into) it, and waits for that. */
  move(to: 'host' | 'device', dtype: DeviceArrayType, offset: number, values: Values): void {
    const handle = this.#handle;
    if (handle) {
      native(() => { loadNative()[to === 'host' ? 'readDeviceMemory' : 'writeDeviceMemory'](handle, offset, values); });
      return;
    }
    const here = new arrayTypes[dtype](this.#live(this.#host), offset, values.length);
    if (to === 'host') values.set(here);
    else here.set(values);
  }

  #live(host: ArrayBuffer | undefined): ArrayBuffer {
    if (!host) throw disposed('memory');
    return host;
  }
}

/** Numbers in `DeviceMemory`: a run's input or output in the place of a typed array, read and written where it lies. */
export class DeviceArray {
  readonly memory: DeviceMemory;
  /** bf16, f16: the bits, as a Uint16Array has them. */
  readonly dtype: DeviceArrayType;
  /** Elements. */
  readonly length: number;
  readonly #offset: number;

  /** @throws LongerError ERR_SHAPE for an offset that is no multiple of 256 bytes, or elements outside of the memory */
  constructor(memory: DeviceMemory, dtype: DeviceArrayType, offset: number, length: number) {
    if (offset % alignment !== 0 || offset < 0 || offset + bytesOf(dtype, length) > memory.bytes)
      throw new LongerError('ERR_SHAPE', `${length} elements of ${dtype} at byte ${offset} are no part of ${memory.bytes} bytes that begins at a multiple of ${alignment}`);
    this.memory = memory;
    this.dtype = dtype;
    this.length = length;
    this.#offset = offset;
  }

  get byteLength(): number {
    return bytesOf(this.dtype, this.length);
  }

  /** A copy of elements `from` to `to`. @throws LongerError ERR_DISPOSED */
  read(from = 0, to = this.length): Values {
    const values = new arrayTypes[this.dtype](Math.max(0, to - from));
    this.memory.move('host', this.dtype, this.#offset + bytesOf(this.dtype, from), values);
    return values;
  }

  /** Writes elements from `at` on. No run under way may use them. @throws LongerError ERR_DISPOSED */
  write(values: Values, at = 0): void {
    this.memory.move('device', this.dtype, this.#offset + bytesOf(this.dtype, at), values);
  }

  /** @internal */
  get bound(): Values | DeviceArraySpec {
    return this.memory.part(this.dtype, this.#offset, this.length);
  }
}
