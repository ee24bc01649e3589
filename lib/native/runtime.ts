import { availableParallelism } from 'node:os';
import { LongerError } from '../errors.ts';
import { expectOptions } from '../schema/given.ts';
import { type ChosenDevice, type DeviceName, resolveDevice } from './device.ts';
import { loadNative } from './load.ts';
import { disposed, native } from './translated.ts';
import type { DeviceUse, RuntimeHandle } from './types.ts';

export interface RuntimeOptions {
  /** Default: the CPUs that this process may use. Results do not depend on it. */
  readonly threads?: number | undefined;
  /** Where plans of this runtime run and where their states live. Default: `cpu`. */
  readonly device?: DeviceName | undefined;
  /**
   * Microseconds, 0 to 2000, default 1000. A run that trains nothing is done on the calling thread, without the hand-over to the native one and back,
   * if runs as large are known to take less and none is under way; in one turn of the event loop 4 ms of them at most. 0: never.
   */
  readonly hereBelow?: number | undefined;
  /**
   * 0 to 19, default 0: how far the threads stand back where CPUs are short. With as many threads as CPUs, 10 leaves the event loop its turns while training
   * (docs/benchmarks.md); other processes come first too. Linux only.
   */
  readonly niceness?: number | undefined;
}

/** A native thread with its thread pool, or with a device; plans of one runtime run one after another. */
export class Runtime implements Disposable {
  readonly threads: number;
  readonly device: ChosenDevice;
  /** @internal */
  readonly hereBelow: number;
  #handle: RuntimeHandle | undefined;

  /** @throws LongerError ERR_CONFIG for a bad option; one of the ERR_DEVICE codes, with the reason and the remedy, for a device that cannot be used */
  constructor(options: RuntimeOptions = {}) {
    expectOptions(options, ['threads', 'device', 'hereBelow', 'niceness'], 'Runtime');
    const { threads = availableParallelism(), hereBelow = 1000, niceness = 0, device = 'cpu' } = options;
    this.hereBelow = hereBelow;
    if (typeof hereBelow !== 'number' || !(hereBelow >= 0 && hereBelow <= 2000))
      throw new LongerError('ERR_CONFIG', `expected microseconds from 0 to 2000, got ${hereBelow}`, { place: 'hereBelow' });
    if (!Number.isSafeInteger(threads) || threads < 1 || threads > 1024)
      throw new LongerError('ERR_CONFIG', `expected a whole number from 1 to 1024, got ${threads}`, { place: 'threads' });
    this.threads = threads;
    if (!Number.isSafeInteger(niceness) || niceness < 0 || niceness > 19)
      throw new LongerError('ERR_CONFIG', `expected a whole number from 0 to 19, got ${niceness}`, { place: 'niceness' });
    this.device = resolveDevice(device);
    this.#handle = native(() => loadNative().createRuntime(threads, niceness, this.device));
  }

  /** What runs a plan whose state was made for this runtime. */
  get backend(): 'cpu' | 'cuda' {
    return this.device === 'cpu' ? 'cpu' : 'cuda';
  }

  /** @internal */
  get handle(): RuntimeHandle {
    if (!this.#handle) throw disposed('runtime');
    return this.#handle;
  }

  /** What was copied and launched so far, by everybody who has the device open; bytes allocated there, and those that could be. @throws LongerError ERR_DEVICE for the CPU */
  deviceUse(): DeviceUse {
    return native(() => loadNative().deviceUse(this.handle));
  }

  dispose(): void {
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    if (this.#handle) loadNative().freeRuntime(this.#handle);
    this.#handle = undefined;
  }
}
