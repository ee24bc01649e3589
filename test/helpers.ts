import { once } from 'node:events';
import { createServer } from 'node:net';
import { defineSchema } from '../lib/schema/schema.ts';
import { id, ids, numeric } from '../lib/schema/features.ts';
import { encodeRequest, type EncodedRequest } from '../lib/schema/encode.ts';
import { type Batch, packBatch } from '../lib/data/batch.ts';
import { historyForm, type LongerConfig, longerDefaults, type ModelConfig, presets } from '../lib/model/config.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { Plan, State, type StateHome } from '../lib/native/plan.ts';
import type { Runtime } from '../lib/native/runtime.ts';
import type { HostBackend, NumericArray } from '../lib/native/types.ts';
import { trainDefaults } from '../lib/train/options.ts';
import { initialiseStep, type StepOptions, trainStep } from '../lib/train/step.ts';

/** A schema with every kind of feature. */
export const richSchema = defineSchema({
  tables: { item: { size: 50, width: 6 }, user: { size: 40, width: 4, hash: true } },
  user: { user_id: id('user'), age: numeric({ mean: 30, std: 10 }), likes: ids('item', { pooling: 'mean' }) },
  context: { hour: id(24, 3) },
  event: { item: id('item'), action: id(3, 2), dwell: numeric({ boundaries: [1, 10, 100], width: 2 }) },
  candidate: { item: id('item'), price: numeric({ mean: 1, std: 2 }) },
  labels: { click: {}, buy: { weight: 0.5 } },
  time: true,
});

/** Small numbers from a seed. */
export function random(seed: number): () => number {
  let s = seed | 0;
  return () => {
    s = (s + 0x6d2b79f5) | 0;
    let t = Math.imul(s ^ (s >>> 15), 1 | s);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Requests of `richSchema` with the given history lengths and candidate counts. */
export function requests(lengths: readonly number[], candidates: readonly number[], seed = 1): EncodedRequest[] {
  const next = random(seed);
  const int = (n: number): number => Math.floor(next() * n);
  return lengths.map((length, r) => {
    let time = 1000;
    const history = Array.from({ length }, () => ({ item: int(50), action: int(3), dwell: next() * 200, time: (time += int(500)) }));
    const C = candidates[r % candidates.length]!;
    return encodeRequest(richSchema, {
      id: `r${r}`,
      user: { user_id: `u${int(1000)}`, age: 20 + int(40), likes: Array.from({ length: int(4) }, () => int(50)) },
      context: { hour: int(24) },
      time: time + int(1000),
      historyStart: r % 2 === 1 ? r : 0,
      history,
      candidates: Array.from({ length: C }, () => ({ item: int(50), price: next() * 3 })),
      labels: { click: Array.from({ length: C }, () => int(2)), buy: Array.from({ length: C }, (_, i) => (i % 3 === 2 ? null : int(2))) },
    });
  });
}

/** Parameters far from their first values: gains and biases too, and keys that differ from queries. */
export function scramble(model: ModelDescription, state: State): Map<string, { data: Float64Array; shape: readonly number[] }> {
  const next = random(17);
  const result = new Map<string, { data: Float64Array; shape: readonly number[] }>();
  for (const [name, { shape }] of [...model.layout.dense, ...model.layout.tables]) {
    const data = Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => (name.endsWith('.gain') ? 1 : 0) + 0.8 * (next() - 0.5));
    const { store, offset } = model.layout.place(name);
    state.write(store, offset, data);
    result.set(name, { data, shape });
  }
  return result;
}

export const sameBits = (a: ArrayBufferView, b: ArrayBufferView): boolean =>
  Buffer.from(a.buffer, a.byteOffset, a.byteLength).equals(Buffer.from(b.buffer, b.byteOffset, b.byteLength));

/** The first events of a request. */
export function encodedTo(r: EncodedRequest, to: number): EncodedRequest {
  const ids = new Map([...r.event.ids].map(([n, c]) => [n, c.slice(0, to)]));
  return { ...r, event: { ...r.event, ids }, events: to, eventTime: r.eventTime.slice(0, to) };
}

/** Packed for a model, or for one whose history has the default form. */
export function batchOf(encoded: readonly EncodedRequest[], of: number | ModelConfig): Batch {
  return packBatch(richSchema, encoded, typeof of === 'number' ? { maxHistory: of } : historyForm(of));
}

export const tiny: LongerConfig = {
  ...longerDefaults,
  maxHistory: 24,
  width: 4,
  merge: 2,
  inner: { blocks: 1, heads: 2 },
  queries: { kind: 'recent', k: 4 },
  heads: 2,
  timeGap: { buckets: 16, width: 2 },
  head: { kind: 'pooled', hidden: [6] },
};

/** The forms of a history under which what was computed of it holds when it grows. */
export const appendSafe: LongerConfig = { ...tiny, alignment: 'oldest', position: 'ordinal', timeGap: { to: 'previous', buckets: 16, width: 2 } };
export const banded: LongerConfig = { ...appendSafe, window: 'banded', queries: { kind: 'recent', k: 5 } };

/** Every option of the model at least once. */
export const variants: Readonly<Record<string, LongerConfig>> = {
  paper: tiny,
  'paper, uid and cls': { ...tiny, globals: { uid: 'user_id', cls: 2 } },
  anchored: { ...tiny, visibility: 'anchored', globals: { uid: 'user_id', cls: 1 } },
  'merge 1': { ...tiny, merge: 1, heads: 1 },
  'merge 4, no inner': { ...tiny, merge: 4, inner: { blocks: 0, heads: 1 } },
  'three inner blocks': { ...tiny, inner: { blocks: 3, heads: 1 } },
  uniform: { ...tiny, queries: { kind: 'uniform', k: 3 } },
  learnable: { ...tiny, queries: { kind: 'learnable', k: 3 } },
  'learnable, anchored': { ...tiny, queries: { kind: 'learnable', k: 3 }, visibility: 'anchored' },
  'recent and uniform': { ...tiny, queries: { kind: 'recent+uniform', recent: 2, uniform: 2 } },
  'no self layer': { ...tiny, selfLayers: 0 },
  'two self layers': { ...tiny, selfLayers: 2 },
  'rms norm, swiglu': { ...tiny, norm: 'rms', ffn: 'swiglu' },
  gate: { ...tiny, gate: true },
  'flat head': { ...tiny, head: { kind: 'flatten', hidden: [6] } },
  'flat head, anchored': { ...tiny, head: { kind: 'flatten', hidden: [6] }, visibility: 'anchored' },
  'oldest-aligned, merge 3': { ...tiny, alignment: 'oldest', merge: 3, inner: { blocks: 1, heads: 1 } },
  'ordinal positions, gaps to the event before': { ...tiny, position: 'ordinal', timeGap: { to: 'previous', buckets: 16, width: 2 } },
  'append-safe': appendSafe,
  'append-safe, anchored': { ...appendSafe, visibility: 'anchored', globals: { uid: null, cls: 1 } },
  banded,
  'banded, all queries, flat head': { ...banded, merge: 3, inner: { blocks: 1, heads: 1 }, queries: { kind: 'all' }, selfLayers: 2, head: { kind: 'flatten', hidden: [6] } },
  'own candidate encoder': { ...tiny, candidateEncoder: 'own' },
};

const small = { maxHistory: 24, width: 4, timeGap: { buckets: 16, width: 2 }, head: { kind: 'pooled', hidden: [6] }, unit: [5] } as const;
/** The variants and the baselines. */
export const models: Readonly<Record<string, ModelConfig>> = {
  ...variants,
  base: { ...presets.base(), ...small },
  'sum pooling': { ...presets['sum-pooling'](), ...small },
  din: { ...presets.din(), ...small },
  transformer: { ...presets.transformer(), maxHistory: 24, width: 4, heads: 2, timeGap: { buckets: 16, width: 2 }, head: { kind: 'pooled', hidden: [6] } },
};

export interface Compiled {
  readonly state: State;
  readonly plan: Plan;
}

export const still: StepOptions = { ...trainDefaults, dense: { ...trainDefaults.dense, fanInBase: 0 }, clip: { dense: 0, sparse: 0 } };

/** A training step that updates nothing: its gradients can be read. */
export function compiledStep(model: ModelDescription, runtime: Runtime, backend: HostBackend, options: StepOptions = still): Compiled {
  const compiled = trainStep(model, options);
  const state = new State([...model.layout.stores(), ...compiled.stores], backend);
  model.initialise(state, 7);
  initialiseStep(state, model.layout, options);
  return { state, plan: new Plan(compiled.spec, state, runtime) };
}

/** Loss and logits of one run; gradients are left in the store `dense.grad`. */
export async function runStep(c: Compiled, model: ModelDescription, batch: Batch, backend: HostBackend): Promise<{ loss: number; logits: Float64Array | Float32Array }> {
  const { sizes, arrays } = model.inputs(batch);
  arrays.set('hyper', new Float32Array(8));
  arrays.set('dropout.seed', Int32Array.of(1, 1));
  const make = (n: number): Float64Array | Float32Array => (backend === 'reference' ? new Float64Array(n) : new Float32Array(n));
  const loss = make(1);
  const logits = make(batch.candidates * richSchema.tasks.length);
  await c.plan.run(sizes, arrays, new Map([['loss', loss], ['logits', logits]]));
  return { loss: loss[0]!, logits };
}

export function inputsOf(model: ModelDescription, batch: Batch): { sizes: Record<string, number>; arrays: Map<string, NumericArray> } {
  const { sizes, arrays } = model.inputs(batch);
  arrays.set('hyper', new Float32Array(8)).set('dropout.seed', Int32Array.of(3, 4));
  return { sizes, arrays };
}

/** Loss, logits and gradients, dense and sparse ones (by what they would change), of one step. */
export async function gradients(model: ModelDescription, batch: Batch, options: Partial<StepOptions>, runtime: Runtime, home: StateHome = runtime): Promise<Record<string, Float64Array>> {
  const stepOptions = { ...still, ...options };
  const step = trainStep(model, { ...(home === runtime && { target: runtime }), ...stepOptions });
  const state = new State([...model.layout.stores(), ...step.stores], home);
  model.initialise(state, 7);
  initialiseStep(state, model.layout, stepOptions);
  const plan = new Plan(step.spec, state, runtime);
  const { sizes, arrays } = inputsOf(model, batch);
  arrays.set('hyper', Float32Array.of(0, 0, 1, 1, 0, 0, 0, 0));
  const make = (n: number): Float32Array | Float64Array => (home === 'reference' ? new Float64Array(n) : new Float32Array(n));
  const outputs = { loss: make(1), logits: make(batch.candidates * model.schema.tasks.length), 'norm.sparse': make(1) };
  await plan.run(sizes, arrays, new Map(Object.entries(outputs)));
  const result: Record<string, Float64Array> = Object.fromEntries(Object.entries(outputs).map(([k, v]) => [k, Float64Array.from(v)]));
  const lossScale = step.graph.outputs.has('loss_scale') ? stepOptions.gradScaler.initScale : 1;
  result['dense'] = state.read('dense.grad', 0, new Float64Array(model.layout.denseSize)).map((g) => g / lossScale);
  for (const { name, size } of model.layout.stores()) if (name !== 'dense') result[name] = state.read(name, 0, new Float64Array(size));
  plan.dispose();
  state.dispose();
  return result;
}

/** The largest difference, relative to the largest number of its kind. */
export function difference(a: Record<string, Float64Array>, b: Record<string, Float64Array>): number {
  let worst = 0;
  for (const [name, x] of Object.entries(a)) {
    const scale = x.reduce((m, v) => Math.max(m, Math.abs(v)), 1e-6);
    x.forEach((v, i) => { worst = Math.max(worst, Math.abs(v - b[name]![i]!) / scale); });
  }
  return worst;
}

/** A port that nobody listens at just now. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
