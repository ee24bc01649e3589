import { firstKept, packBatch, packCandidates } from '../data/batch.ts';
import { LongerError } from '../errors.ts';
import { sizeOf } from '../graph/dim.ts';
import type { Graph } from '../graph/graph.ts';
import { checkPrecision, type Precision } from '../graph/passes/precision.ts';
import { loadCheckpoint } from '../model/checkpoint.ts';
import { layoutAppend, type Reuse } from '../model/append.ts';
import { historyForm, type LongerConfig, type ModelConfig } from '../model/config.ts';
import { layoutBeside, layoutCandidates, type ModelInputs } from '../model/layout.ts';
import { checkParity, type ParityReport } from '../model/parity.ts';
import { type CacheEntry, fullPlan, ModelDescription, planOf } from '../model/model.ts';
import { type DeviceArray, DeviceMemory } from '../native/device_array.ts';
import { type Plan, type RunArray, State } from '../native/plan.ts';
import { Runtime } from '../native/runtime.ts';
import type { DeviceName } from '../native/device.ts';
import { expectList, expectOptions, isObject } from '../schema/given.ts';
import { type EncodedCandidates, type EncodedRequest, encodeCandidates, encodeGrowth, encodeRequest, expectEncodedBy } from '../schema/encode.ts';
import { Explainer, type Explanation } from './explainer.ts';
import { type CandidatesOf, type HistoryOf, type RequestOf, type Schema, schemaFromJSON, type SchemaSpec } from '../schema/schema.ts';

/**
 * The candidate-independent part of requests, computed once: keys and values of every layer and what the head reads, in the memory of the ranker's device.
 * That goes back when it is collected; disposing gives it back at once.
 */
export interface Prefilled extends Disposable {
  readonly requests: readonly EncodedRequest[];
  /** Sizes, offsets and limits of the histories. */
  readonly inputs: ModelInputs;
  /** By cache name: [rows, width], rows of all requests end to end; the bits of bf16 or f16 numbers where the precision says so. */
  readonly arrays: ReadonlyMap<string, DeviceArray>;
  dispose(): void;
}

/** Requests encoded and laid out, as the graphs read them: what `pack` gives, for several uses without the work done again. */
export interface PackedHistories {
  /** The one that they were laid out for. */
  readonly model: ModelDescription;
  readonly requests: readonly EncodedRequest[];
  readonly inputs: ModelInputs;
}

/** A cache of grown histories, and what of it was computed for that. */
export interface Appended extends Prefilled {
  /** Of each request, in order. */
  readonly reuse: readonly Reuse[];
}

/** What happened since a request: newer events, the new time, and where they changed a user or context. */
export type GrowthOf<S extends SchemaSpec> = Pick<HistoryOf<S>, 'history' & keyof HistoryOf<S>> & (S['time'] extends false ? unknown : { readonly time: number }) &
  Partial<Pick<HistoryOf<S>, ('user' | 'context') & keyof HistoryOf<S>>>;

export interface RankerOptions<S extends SchemaSpec = SchemaSpec> {
  readonly threads?: number;
  /** Where its own runtime runs. Default: `cpu`. */
  readonly device?: DeviceName;
  /** Shared with others; default: one of its own. */
  readonly runtime?: Runtime;
  /** Types the requests; must be the schema that the model was trained with. */
  readonly schema?: Schema<S>;
  /** Default: the one that the model was trained in. */
  readonly precision?: Precision;
}

/**
 * Scores candidates from an exact cache: prefill once a request, score as often as wanted (spec 6). On the CPU the
 * logits are the same bits as those of the full forward pass, alone or in a batch, for any number of threads.
 */
export class Ranker<S extends SchemaSpec = SchemaSpec> implements Disposable {
  readonly model: ModelDescription;
  readonly precision: Precision;
  /** Where dense parameters are read: `dense`, or their moving average. */
  readonly denseStore: string;
  readonly #cache: readonly CacheEntry[];
  /** Cached values by the names of the score graph's inputs. */
  readonly #cached: ReadonlyMap<string, string>;
  readonly #state: State;
  readonly #runtime: Runtime;
  readonly #owned: Disposable[];
  readonly #prefill: Plan;
  readonly #score: Plan;
  #append: Plan | undefined;
  #explainer: Explainer | undefined;
  #full: Plan | undefined;

  /**
   * @param options `owned`: what is disposed together with the ranker; `denseStore`: where dense parameters are read, for a state in training
   *   its `Trainer.denseStore`
   * @throws LongerError ERR_CONFIG for a precision that the model cannot be served in
   */
  constructor(
    model: ModelDescription, state: State, runtime: Runtime,
    { precision = 'fp32', owned = [], denseStore = 'dense' }: { readonly precision?: Precision; readonly owned?: readonly Disposable[]; readonly denseStore?: string } = {},
  ) {
    checkPrecision(precision, model.full().graph, 'precision', state.backend);
    this.model = model;
    this.precision = precision;
    this.#cache = model.cacheIn(precision);
    this.#cached = new Map(this.#cache.map((e) => [`cache.${e.name}`, e.name]));
    this.#state = state;
    this.#runtime = runtime;
    this.#owned = [...owned];
    this.denseStore = denseStore;
    this.#prefill = this.#plan(model.prefill(precision, runtime));
    this.#score = this.#plan(model.score(precision));
  }

  /**
   * Opens the newest checkpoint of a model directory, or a step's own directory.
   * @throws LongerError ERR_CHECKPOINT for what cannot be loaded, ERR_SCHEMA where the model has another schema than the one given
   */
  static async open<S extends SchemaSpec = SchemaSpec>(directory: string, options: RankerOptions<S> = {}): Promise<Ranker<S>> {
    expectOptions(options, ['threads', 'device', 'runtime', 'schema', 'precision'], 'Ranker.open');
    const checkpoint = await loadCheckpoint(directory, { optimizer: false });
    const config = checkpoint.config['model'] as unknown as ModelConfig | undefined;
    if (!config) throw new LongerError('ERR_CHECKPOINT', 'the manifest holds no model configuration', { place: checkpoint.directory });
    const schema = schemaFromJSON(checkpoint.schema);
    if (options.schema && options.schema.hash !== schema.hash)
      throw new LongerError('ERR_SCHEMA', 'the model was trained with another schema', {
        place: checkpoint.directory, remedy: 'Give the schema of training, or none: the checkpoint holds it',
      });
    const model = new ModelDescription(schema, config);
    const runtime = options.runtime ?? new Runtime({ threads: options.threads, device: options.device });
    const state = new State(model.layout.stores(), runtime);
    model.load(state, checkpoint.tensors);
    const trained = checkpoint.config['train'] as { readonly precision?: Precision } | undefined;
    return new Ranker<S>(model, state, runtime, { precision: options.precision ?? trained?.precision ?? 'fp32', owned: options.runtime ? [state] : [state, runtime] });
  }

  get state(): State {
    return this.#state;
  }

  get runtime(): Runtime {
    return this.#runtime;
  }

  /**
   * Encodes requests and lays out their histories, for this model alone.
   * @throws LongerError ERR_DATA naming request and feature, also where there is no request; ERR_SCHEMA for one that was encoded with another schema
   */
  pack(requests: readonly (HistoryOf<S> | RequestOf<S> | EncodedRequest)[]): PackedHistories {
    const { schema, config } = this.model;
    const encoded = encodedRequests(schema, requests);
    return { model: this.model, requests: encoded, inputs: this.model.historyInputs(packBatch(schema, encoded, historyForm(config))) };
  }

  /**
   * Computes what no candidate can change, for one or many requests.
   * @param requests users, contexts, times and histories, or what `pack` made of them; candidates that they bring are what `score` scores by default
   * @throws LongerError ERR_DATA naming request and feature, or the settings of the model that they were packed for where its form is another;
   *   ERR_SCHEMA where its schema is
   */
  async prefill(requests: readonly (HistoryOf<S> | RequestOf<S> | EncodedRequest)[] | PackedHistories, signal?: AbortSignal): Promise<Prefilled> {
    const packed = isPacked(requests) ? requests : this.pack(requests);
    if (packed.model !== this.model) checkPackedFor(this.model, packed.model);
    const { sizes, arrays: given } = packed.inputs;
    const cache = this.#outputs(sizes);
    await this.#prefill.run(sizes, given, named('cache', cache.arrays), { signal });
    return { requests: packed.requests, inputs: packed.inputs, ...cache };
  }

  /**
   * The cache of requests that grew: what still holds is taken over, the rest computed, and the result is the same bits as a prefill of the grown
   * histories. The cache that it goes on from stays as it is. With a banded window the work is that of the new events; with a full one the
   * rows that ask are computed again once something that they saw has left (docs/model.md).
   * @param growth for each request of the cache, in its order; a history may be empty
   * @throws LongerError ERR_CONFIG naming the form under which nothing of this model's cache holds; ERR_SHAPE for another number of requests;
   * ERR_DATA naming request and feature, also for events older than those of the cache
   */
  async append(cache: Prefilled, growth: readonly GrowthOf<S>[], signal?: AbortSignal): Promise<Appended> {
    expectPrefilled(cache);
    expectList(growth, 'growth', 'Give new events for each request of the cache');
    const { schema, config } = this.model;
    this.#append ??= this.#plan(this.model.append(this.precision, this.#runtime));
    if (growth.length !== cache.requests.length)
      throw new LongerError('ERR_SHAPE', `the cache holds ${cache.requests.length} requests, ${growth.length} were given more events`);
    const form = historyForm(config);
    // An event stays as long as it is kept or gives the first that is its gap.
    const grown = cache.requests.map((r, i) => encodeGrowth(schema, r, growth[i]!, Math.max(0, firstKept(schema, form, r) - 1 - r.historyStart), `request ${i}`));
    const { run, inputs, reuse } = layoutAppend(schema, config as LongerConfig, cache.requests, grown);
    const next = this.#outputs(inputs.sizes);
    const past = new Map<string, RunArray>([...run.arrays, ...[...cache.arrays].map(([name, a]) => [`past.${name}`, a] as const)]);
    await this.#append.run(run.sizes, past, named('cache', next.arrays), { signal });
    return { requests: grown, inputs, ...next, reuse };
  }

  /**
   * Scores candidates against the cache.
   * @param candidates a list for each request of the prefill, in its order; default: those that the requests brought
   * @returns logits f32 [candidates of all requests, tasks]; sigmoid makes them probabilities
   * @throws LongerError ERR_SHAPE for another number of lists, ERR_DATA naming request and feature
   */
  async score(prefilled: Prefilled, candidates: readonly (CandidatesOf<S> | EncodedCandidates)[] = prefilled.requests, signal?: AbortSignal): Promise<Float32Array> {
    expectPrefilled(prefilled);
    expectList(candidates, 'candidates', 'Give a list for each request of the prefill');
    if (candidates.length !== prefilled.requests.length)
      throw new LongerError('ERR_SHAPE', `the cache holds ${prefilled.requests.length} requests, ${candidates.length} candidate lists were given`);
    const { schema } = this.model;
    const batch = packCandidates(schema, candidates.map((c, i) => encodedCandidates(schema, c, i)));
    const { config } = this.model;
    const { sizes, arrays } = layoutBeside(config, prefilled.inputs, layoutCandidates(config, batch));
    const get = (name: string): RunArray | undefined => {
      const cached = this.#cached.get(name);
      return cached === undefined ? (arrays.get(name) ?? prefilled.inputs.arrays.get(name)) : prefilled.arrays.get(cached);
    };
    const logits = new Float32Array(batch.candidates * schema.tasks.length);
    await this.#score.run(sizes, { get }, new Map([['logits', logits]]), { signal });
    return logits;
  }

  /**
   * Scores requests by the full forward pass: nothing is cached, which is cheaper where no other candidates will come (docs/serving.md, "Once"). The bits of `score`.
   * @param requests with their candidates
   * @returns logits f32 [candidates of all requests, tasks]
   * @throws LongerError ERR_DATA naming request and feature
   */
  async scoreOnce(requests: readonly (RequestOf<S> | EncodedRequest)[], signal?: AbortSignal): Promise<Float32Array> {
    const { schema, config } = this.model;
    const batch = packBatch(schema, encodedRequests(schema, requests), historyForm(config));
    this.#full ??= fullPlan(this.model, this.#state, this.#runtime, this.precision, this.denseStore);
    const { sizes, arrays } = this.model.inputs(batch);
    const logits = new Float32Array(batch.candidates * schema.tasks.length);
    await this.#full.run(sizes, arrays, new Map([['logits', logits]]), { signal });
    return logits;
  }

  /**
   * Which events each candidate's score looked at, by attention rollout (docs/model.md, "Explanations"). Costs a full forward pass of its own for
   * each request; scores and caches stay as they are.
   * @param requests with their candidates
   * @param top events of each candidate
   * @returns by request, an explanation for each of its candidates
   * @throws LongerError ERR_CONFIG for a model that has no attention over events, ERR_DATA naming request and feature
   */
  async explain(requests: readonly (RequestOf<S> | EncodedRequest)[], top: number, signal?: AbortSignal): Promise<Explanation[][]> {
    const encoded = encodedRequests(this.model.schema, requests);
    this.#explainer ??= new Explainer(this.model, this.#state, this.#runtime, this.precision, this.denseStore);
    const all: Explanation[][] = [];
    for (const r of encoded) all.push((await this.#explainer.explain(r, top, signal)).explanations);
    return all;
  }

  #plan(graph: Graph): Plan {
    return planOf(this.model, graph, this.#state, this.#runtime, this.denseStore);
  }

  #outputs(sizes: ModelInputs['sizes']): Pick<Prefilled, 'arrays' | 'dispose' | typeof Symbol.dispose> {
    const { memory, arrays } = DeviceMemory.arrays(this.#runtime, new Map(this.#cache.map((e) => [e.name, { dtype: e.dtype, length: sizeOf(e.rows, sizes) * e.width }])));
    const dispose = (): void => { memory.dispose(); };
    return { arrays, dispose, [Symbol.dispose]: dispose };
  }

  /**
   * Whether requests with candidates score the same bits by the full forward pass, from the cache, alone, in a batch and
   * with other numbers of threads. On the CPU they do; a false `equal` is a bug of this library.
   */
  verifyParity(requests: readonly (RequestOf<S> | EncodedRequest)[]): Promise<ParityReport> {
    const encoded = encodedRequests(this.model.schema, requests);
    return checkParity(this.model, this.#state, this.#runtime, encoded, this.precision, this.denseStore);
  }

  dispose(): void {
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#prefill.dispose();
    this.#score.dispose();
    this.#append?.dispose();
    this.#explainer?.[Symbol.dispose]();
    this.#full?.dispose();
    for (const o of this.#owned) o[Symbol.dispose]();
  }
}

const isPacked = (given: object): given is PackedHistories => isObject(given) && 'inputs' in given;

/** @throws LongerError ERR_DATA */
function expectPrefilled(cache: Prefilled): void {
  if (!isObject(cache) || !('arrays' in cache)) throw new LongerError('ERR_DATA', 'expected what prefill or append gives', { place: 'cache', remedy: 'Requests are scored without one by scoreOnce' });
}

/** Histories are laid out as the settings of one model say; those of another with the same settings and schema serve as well. */
function checkPackedFor(model: ModelDescription, other: ModelDescription): void {
  const remedy = 'Pack them with this ranker';
  if (other.schema.hash !== model.schema.hash) throw new LongerError('ERR_SCHEMA', 'the histories were packed for a model with another schema', { remedy });
  const [ours, theirs] = [model.config, other.config].map((config) => new Map(Object.entries(config).map(([name, value]) => [name, JSON.stringify(value)])));
  const differing = [...ours!.keys()].filter((name) => ours!.get(name) !== theirs!.get(name));
  if (differing.length === 0) return;
  throw new LongerError('ERR_DATA', `the histories were packed in another form: ${differing.map((name) => `${name} ${theirs!.get(name)}, and this model has ${ours!.get(name)}`).join('; ')}`, { remedy });
}

const named = (prefix: string, arrays: ReadonlyMap<string, RunArray>): Map<string, RunArray> => new Map([...arrays].map(([name, a]) => [`${prefix}.${name}`, a]));

/** @throws LongerError ERR_DATA where it is no list, or naming request and feature; ERR_SCHEMA */
export function encodedRequests(schema: Schema, requests: readonly (object | null)[]): EncodedRequest[] {
  expectList(requests, 'requests', 'One request is given as [request]');
  return requests.map((r, i) => encodedRequest(schema, r, i));
}

/** A request as it is, or encoded; without candidates where it brings none. @throws LongerError ERR_DATA naming request and feature, ERR_SCHEMA for one that another schema has encoded */
export function encodedRequest(schema: Schema, request: object | null, i: number): EncodedRequest {
  const given = typeof request === 'object' && request !== null;
  if (given && 'eventTime' in request && request.eventTime instanceof Float64Array) {
    expectEncodedBy(schema, request as EncodedRequest, `request ${i}`);
    return request as EncodedRequest;
  }
  return encodeRequest(schema, (given ? { candidates: [], ...request } : request) as never, `request ${i}`);
}

/** Candidates as they are, or encoded. @throws LongerError ERR_DATA naming request and feature */
export function encodedCandidates(schema: Schema, candidates: object | null, i: number): EncodedCandidates {
  return typeof candidates === 'object' && candidates !== null && 'labels' in candidates && candidates.labels instanceof Float32Array ? (candidates as EncodedCandidates) : encodeCandidates(schema, candidates as never, undefined, `request ${i}`);
}
