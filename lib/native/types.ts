/** The typed mirror of csrc/addon: what crosses the boundary, and nothing else. */

export type DTypeName = 'f32' | 'bf16' | 'f16' | 'f64' | 'i32';
export type NumericArray = Float32Array | Float64Array | Int32Array | Uint16Array;

/** constant + sum of coefficient * size of symbol. */
export interface DimSpec {
  readonly constant: number;
  readonly terms: readonly (readonly [symbol: number, coefficient: number])[];
}

export interface ValueSpec {
  readonly name: string;
  readonly dtype: DTypeName;
  readonly dims: readonly DimSpec[];
  /** arena: planned by lifetime; input and output: memory of the caller; store: persistent, by store name and element offset. */
  readonly place: 'arena' | 'input' | 'output' | 'store';
  readonly store?: string;
  readonly offset?: number;
}

export interface NodeSpec {
  readonly op: string;
  readonly name: string;
  /** Indices into values; -1 for an absent optional value. */
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
  readonly attrs: readonly number[];
  /** Of a node of the op `tiled`. */
  readonly tile?: TileSpec;
}

export type TileRoleSpec = 'inner' | 'row' | 'whole' | 'sum' | 'offsets' | 'segment' | 'groupOffsets' | 'group';

/** A chain of operations that runs on some rows at a time; lib/graph/graph.ts explains the roles. */
export interface TileSpec {
  /** Whose rows are cut. */
  readonly symbol: number;
  /** Most rows of a tile; one has at least a group. */
  readonly rows: number;
  readonly groupSize: number;
  /** Value indices; -1 for none. */
  readonly offsets: number;
  readonly groupOffsets: number;
  /** Of every value that the body touches. */
  readonly roles: readonly (readonly [value: number, role: TileRoleSpec])[];
  readonly body: readonly NodeSpec[];
}

/** Nodes run in the order given. */
export interface GraphSpec {
  readonly symbols: readonly string[];
  readonly values: readonly ValueSpec[];
  readonly nodes: readonly NodeSpec[];
  /** Products of f32 take TF32 numbers, 11 bits of each factor; on a device only. */
  readonly tf32?: boolean;
}

export interface StoreSpec {
  readonly name: string;
  readonly dtype: 'f32' | 'i32';
  /** Elements. */
  readonly size: number;
}

/** `cuda`: on the device of the runtime, be it a GPU or the emulated one. */
export type Backend = HostBackend | 'cuda';
export type HostBackend = 'cpu' | 'reference';

declare const handle: unique symbol;
export interface RuntimeHandle { readonly [handle]: 'runtime' }
export interface StateHandle { readonly [handle]: 'state' }
export interface PlanHandle { readonly [handle]: 'plan' }
export interface MemoryHandle { readonly [handle]: 'memory' }

/** Numbers in a device's memory, as a run is given them. */
export interface DeviceArraySpec {
  readonly memory: MemoryHandle;
  readonly dtype: DTypeName;
  /** Bytes, a multiple of 256. */
  readonly offset: number;
  readonly length: number;
}

/** Bytes copied between host and device and runs launched as captured graphs since this was opened, by everybody, and bytes allocated there now. */
export interface DeviceUse {
  readonly copiedIn: number;
  readonly copiedOut: number;
  readonly allocated: number;
  readonly available: number;
  /** Of the allocated ones, those that this runtime keeps for its runs. */
  readonly scratch: number;
  readonly graphLaunches: number;
}

export interface MemoryReport {
  /** Bytes of the arena at these sizes: values and workspaces, on a device inputs and outputs too. Weights and what is prepared of them stand beside it. */
  readonly arena: number;
  /** The largest single values: name and bytes, descending, at most 10. */
  readonly largest: readonly { name: string; bytes: number }[];
}

export interface RunOptions {
  /** Time of every node in microseconds is returned. */
  readonly profile?: boolean;
  /** Every float output is scanned; the first bad node is named in the result. */
  readonly checkFinite?: boolean;
  /** Where such runs are known to take less than so many microseconds and none is under way, it is done on the calling thread. Default 0: never. */
  readonly hereBelow?: number;
}

export interface RunResult {
  /** Microseconds of the whole run. */
  readonly elapsed: number;
  readonly cancelled: boolean;
  /** It was done on the calling thread. */
  readonly here: boolean;
  /**
   * Microseconds a node, when profiled, in the order of `Plan.nodes`. A node inside a `tiled` one has its share of the
   * time that this took, so that the times add up to that of the run for any number of threads.
   */
  readonly times?: Float64Array;
  /** Index into `Plan.nodes` of the first node with a NaN or Inf in an output, when asked; -1 for none. */
  readonly firstNonFinite: number;
}

export interface Job {
  /** Of a run that is over, having been done on the calling thread. */
  readonly result?: RunResult;
  /** Where there is no result yet. */
  readonly promise?: Promise<RunResult>;
  readonly cancel?: () => void;
}

export interface DeviceReport {
  readonly cpu: { isa: string; avx2: boolean; avx512: boolean; avx512bf16: boolean; amx: boolean; threads: number };
  readonly cuda: { built: boolean; usable: boolean; reason: string; driverVersion: number; runtimeVersion: number; devices: string[] };
}

export interface NativeAddon {
  version(): string;
  devices(): DeviceReport;
  /** Names of all operations that the kernels implement. */
  operations(): string[];
  /** @param device 'cpu' (default), 'cuda:<index>', or 'emulated' in a build for tests */
  createRuntime(threads: number, niceness?: number, device?: string): RuntimeHandle;
  freeRuntime(runtime: RuntimeHandle): void;
  /** Zeroed memory outside of V8's heap, touched at once: in huge pages where the system has them. */
  createMemory(bytes: number): ArrayBuffer;
  /** Persistent memory by name, zeroed. For backend 'reference' every f32 store is held as f64; for 'cuda' on the runtime's device. */
  createState(stores: readonly StoreSpec[], backend: Backend, runtime?: RuntimeHandle): StateHandle;
  freeState(state: StateHandle): void;
  /** Copies out of (into) a store, elements from `offset`; converts between f32 and f64 where the arrays differ. */
  readState(state: StateHandle, store: string, offset: number, into: Float32Array | Float64Array | Int32Array): void;
  writeState(state: StateHandle, store: string, offset: number, from: Float32Array | Float64Array | Int32Array): void;
  /** Zeroed memory on the runtime's device; it goes back when it is freed or collected and no run uses it any more. */
  createDeviceMemory(runtime: RuntimeHandle, bytes: number): MemoryHandle;
  freeDeviceMemory(memory: MemoryHandle): void;
  /** Copies from (to) `offset` in bytes, and waits for it. */
  readDeviceMemory(memory: MemoryHandle, offset: number, into: NumericArray): void;
  writeDeviceMemory(memory: MemoryHandle, offset: number, from: NumericArray): void;
  /** Copies so many bytes within it for each pair of offsets: from, to. Waits for it. */
  copyDeviceMemory(memory: MemoryHandle, pairs: Float64Array, bytes: number): void;
  deviceUse(runtime: RuntimeHandle): DeviceUse;
  compile(graph: GraphSpec, state: StateHandle, runtime: RuntimeHandle, backend: Backend): PlanHandle;
  freePlan(plan: PlanHandle): void;
  /** What a run at these sizes (by symbol) will need, without running. */
  planMemory(plan: PlanHandle, sizes: Float64Array): MemoryReport;
  /**
   * Queues one run on the runtime's own thread, or does it at once (`hereBelow`). `inputs` and `outputs` are in the order of the graph's input and
   * output values; the arrays are borrowed (not copied) until the promise settles, and must have exactly the
   * sizes that the symbols give. A null output is computed into the arena and not returned. Arrays in the memory of the plan's device are read and
   * written there.
   */
  run(
    plan: PlanHandle, sizes: Float64Array, inputs: readonly (NumericArray | DeviceArraySpec)[], outputs: readonly (NumericArray | DeviceArraySpec | null)[], options: RunOptions,
  ): Job;
}
