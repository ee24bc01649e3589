import { LongerError } from '../errors.ts';
import type { ChosenDevice } from './device.ts';
import { DeviceArray } from './device_array.ts';
import { arrayTypes } from './dtype.ts';
import { loadNative } from './load.ts';
import type { Runtime } from './runtime.ts';
import { disposed, native, translated } from './translated.ts';
import { spendTurn, turnHasRoom } from './turn.ts';
import type { Backend, DeviceArraySpec, GraphSpec, HostBackend, MemoryReport, NodeSpec, NumericArray, PlanHandle, RunOptions, RunResult, StateHandle, StoreSpec, ValueSpec } from './types.ts';

/** @internal */
export const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const largestOf = (values: readonly { readonly name: string; readonly bytes: number }[]): string =>
  [...values].sort((a, b) => b.bytes - a.bytes).slice(0, 3).map((v) => `${v.name} ${mebibytes(v.bytes)}`).join(', ');

/** Who a state is for: the runtime on whose device it lives, or a backend of the CPU. */
export type StateHome = HostBackend | Runtime;

/** Persistent memory by name, zeroed at first. */
export class State implements Disposable {
  readonly backend: Backend;
  readonly stores: ReadonlyMap<string, StoreSpec>;
  #handle: StateHandle | undefined;

  constructor(stores: readonly StoreSpec[], home: StateHome = 'cpu') {
    this.backend = typeof home === 'string' ? home : home.backend;
    this.stores = new Map(stores.map((s) => [s.name, s]));
    try {
      this.#handle = loadNative().createState(stores, this.backend, typeof home === 'string' ? undefined : home.handle);
    } catch (cause) {
      const error = translated(cause);
      if (error instanceof LongerError && error.code === 'ERR_MEMORY')
        throw new LongerError('ERR_MEMORY', `${stores.reduce((n, s) => n + 4 * s.size, 0)} bytes of parameters and optimizer state could not be had`, {
          place: largestOf(stores.map(({ name, size }) => ({ name, bytes: 4 * size }))),
          remedy: 'Make the largest embedding tables smaller',
          cause,
        });
      throw error;
    }
  }

  /** @internal */
  get handle(): StateHandle {
    if (!this.#handle) throw disposed('state');
    return this.#handle;
  }

  /** Copies elements from `offset` out of a store. Refused while a run that writes the state has not settled. */
  read<T extends Float32Array | Float64Array | Int32Array>(store: string, offset: number, into: T): T {
    checkOffset(offset);
    native(() => { loadNative().readState(this.handle, store, offset, into); });
    return into;
  }

  /** Copies elements into a store from `offset` on. Refused while a run that uses the state has not settled. */
  write(store: string, offset: number, from: Float32Array | Float64Array | Int32Array): void {
    checkOffset(offset);
    native(() => { loadNative().writeState(this.handle, store, offset, from); });
  }

  dispose(): void {
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    if (this.#handle) loadNative().freeState(this.#handle);
    this.#handle = undefined;
  }
}

function checkOffset(offset: number): void {
  if (!Number.isSafeInteger(offset)) throw new LongerError('ERR_SHAPE', `expected a whole number of elements, got ${offset}`, { place: 'offset' });
}

export interface PlanRunOptions extends RunOptions {
  /** Stops between operations, and the promise rejects with the signal's reason; a run that has begun to update its state (optimizers) is finished. */
  readonly signal?: AbortSignal | undefined;
}

interface BoundSizes {
  readonly sizes: Float64Array;
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
}

/** What a run reads or writes: an array of this process, which is copied where the plan runs on a device, or one in that device's memory. */
export type RunArray = NumericArray | DeviceArray;
/** Arrays by name. */
export type ArraysByName = Pick<ReadonlyMap<string, RunArray>, 'get'>;

/** A compiled graph. */
export class Plan implements Disposable {
  readonly graph: GraphSpec;
  readonly inputs: readonly ValueSpec[];
  readonly outputs: readonly ValueSpec[];
  /** Every operation in running order; those inside a `tiled` node stand in its place. */
  readonly nodes: readonly NodeSpec[];
  #handle: PlanHandle | undefined;
  readonly #backend: Backend;
  readonly #hereBelow: number;
  readonly #device: ChosenDevice;
  /** Sizes of the last run, and the elements of inputs and outputs at these. */
  #last: BoundSizes | undefined;

  constructor(graph: GraphSpec, state: State, runtime: Runtime) {
    this.graph = graph;
    this.inputs = graph.values.filter((v) => v.place === 'input');
    this.outputs = graph.values.filter((v) => v.place === 'output');
    this.nodes = graph.nodes.flatMap((n) => n.tile?.body ?? [n]);
    this.#backend = state.backend;
    this.#hereBelow = runtime.hereBelow;
    this.#device = runtime.device;
    try {
      this.#handle = loadNative().compile(graph, state.handle, runtime.handle, state.backend);
    } catch (cause) {
      const error = translated(cause);
      if (error instanceof LongerError) throw error;
      throw new LongerError('ERR_GRAPH', cause instanceof Error ? cause.message : String(cause), { cause });
    }
  }

  /** Arena bytes that a run at these sizes needs, and its largest values, without running. */
  memory(sizes: Readonly<Record<string, number>>): MemoryReport {
    return native(() => loadNative().planMemory(this.#live(), this.#sizes(sizes)));
  }

  /** Elements of an input or output at these sizes. */
  elements(value: ValueSpec, sizes: Readonly<Record<string, number>>): number {
    return value.dims.reduce((n, d) => n * d.terms.reduce((m, [s, c]) => m + c * (sizes[this.graph.symbols[s]!] ?? 0), d.constant), 1);
  }

  /**
   * Runs the graph, on the native thread unless it is short (`Runtime`). The arrays are borrowed until the promise settles: do not write or transfer them.
   *
   * @param inputs arrays by name; names that the graph does not read are ignored
   * @param outputs arrays to write by name; an output that is not named is not returned
   * @throws LongerError ERR_SHAPE for a missing array or one of the wrong type or length; ERR_MEMORY; ERR_NUMERIC never
   */
  async run(
    sizes: Readonly<Record<string, number>>,
    inputs: ArraysByName,
    outputs: ReadonlyMap<string, RunArray> = new Map(),
    options: PlanRunOptions = {},
  ): Promise<RunResult> {
    const { signal, ...runOptions } = options;
    signal?.throwIfAborted();
    const bound = this.#bind(sizes);
    const given = this.inputs.map((v, i) => this.#expect(v, inputs.get(v.name), bound.inputs[i]!));
    const wanted = this.outputs.map((v, i) => (outputs.has(v.name) ? this.#expect(v, outputs.get(v.name), bound.outputs[i]!) : null));
    const job = native(() => loadNative().run(this.#live(), bound.sizes, given, wanted, { ...runOptions, hereBelow: turnHasRoom(this.#hereBelow) ? this.#hereBelow : 0 }));
    const stop = job.cancel;
    if (stop) signal?.addEventListener('abort', stop, { once: true });
    try {
      if (job.result) spendTurn(job.result.elapsed);
      const result = job.result ?? (await job.promise!);
      if (result.cancelled) throw signal?.reason ?? new LongerError('ERR_ABORTED', 'the run was cancelled');
      return result;
    } catch (cause) {
      if (cause instanceof Error && (cause as { code?: unknown }).code === 'ERR_MEMORY' && this.#handle)
        throw new LongerError('ERR_MEMORY', 'the arena of this batch could not be had', {
          place: largestOf(this.memory(sizes).largest),
          remedy: 'Use smaller batches (maxEvents) or the recompute policy "block"',
          cause,
        });
      throw signal?.aborted && cause === signal.reason ? cause : translated(cause);
    } finally {
      if (stop) signal?.removeEventListener('abort', stop);
    }
  }

  dispose(): void {
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    if (this.#handle) loadNative().freePlan(this.#handle);
    this.#handle = undefined;
  }

  #live(): PlanHandle {
    if (!this.#handle) throw disposed('plan');
    return this.#handle;
  }

  #sizes(sizes: Readonly<Record<string, number>>): Float64Array {
    const { symbols } = this.graph;
    const bound = new Float64Array(symbols.length);
    for (let i = 0; i < bound.length; ++i) {
      const name = symbols[i]!;
      const n = sizes[name];
      if (n === undefined || !Number.isSafeInteger(n) || n < 0) throw new LongerError('ERR_SHAPE', `expected a size, got ${n}`, { place: name });
      bound[i] = n;
    }
    return bound;
  }

  #bind(sizes: Readonly<Record<string, number>>): BoundSizes {
    const given = this.#sizes(sizes);
    if (this.#last?.sizes.every((n, i) => n === given[i])) return this.#last;
    const of = (v: ValueSpec): number => this.elements(v, sizes);
    return (this.#last = { sizes: given, inputs: this.inputs.map(of), outputs: this.outputs.map(of) });
  }

  #expect(value: ValueSpec, given: RunArray | undefined, n: number): NumericArray | DeviceArraySpec {
    const place = value.name;
    if (!given) throw new LongerError('ERR_SHAPE', 'the array is missing', { place });
    const array = given instanceof DeviceArray ? this.#resident(value, given) : given;
    if ('memory' in array) {
      if (array.length !== n) throw new LongerError('ERR_SHAPE', `expected ${n} elements, got ${array.length}`, { place });
      return array;
    }
    const type = arrayTypes[value.dtype];
    const converts = this.#backend === 'reference' && value.dtype === 'f32' && array instanceof Float64Array;
    if (!(array instanceof type) && !converts) throw new LongerError('ERR_SHAPE', `expected a ${type.name}, got a ${array.constructor.name}`, { place });
    if (array.length !== n) throw new LongerError('ERR_SHAPE', `expected ${n} elements, got ${array.length}`, { place });
    return array;
  }

  #resident({ name: place, dtype }: ValueSpec, array: DeviceArray): NumericArray | DeviceArraySpec {
    const { device } = array.memory;
    if (device !== this.#device)
      throw new LongerError('ERR_DEVICE', `the array is in the memory of ${device}, the plan runs on ${this.#device}`, { place, remedy: 'Make it with the runtime that runs the plan' });
    if (array.dtype !== dtype) throw new LongerError('ERR_SHAPE', `expected elements of ${dtype}, got ${array.dtype}`, { place });
    return array.bound;
  }
}
