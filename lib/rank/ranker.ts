import { packBatch, packCandidates } from '../data/batch.ts';
import { LongerError } from '../errors.ts';
import { sizeOf } from '../graph/dim.ts';
import { lower } from '../graph/lower.ts';
import { checkPrecision, type Precision } from '../graph/passes/precision.ts';
import { loadCheckpoint } from '../model/checkpoint.ts';
import { historyForm, type ModelConfig } from '../model/config.ts';
import type { ModelInputs } from '../model/layout.ts';
import { checkParity, type ParityReport } from '../model/parity.ts';
import { type CacheEntry, ModelDescription } from '../model/model.ts';
import { Plan, Runtime, State } from '../native/plan.ts';
import type { NumericArray } from '../native/types.ts';
import { type EncodedCandidates, type EncodedRequest, encodeCandidates, encodeRequest } from '../schema/encode.ts';
import { type CandidatesOf, type HistoryOf, type RequestOf, type Schema, schemaFromJSON, type SchemaSpec } from '../schema/schema.ts';

/** The candidate-independent part of requests, computed once: keys and values of every layer and what the head reads. */
export interface Prefilled {
  readonly requests: readonly EncodedRequest[];
  /** Sizes, offsets and limits of the histories. */
  readonly inputs: ModelInputs;
  /** By cache name: [rows, width], rows of all requests end to end; the bits of bf16 numbers where the precision says so. */
  readonly arrays: ReadonlyMap<string, Float32Array | Uint16Array>;
}

export interface RankerOptions<S extends SchemaSpec = SchemaSpec> {
  readonly threads?: number;
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
  readonly #cache: readonly CacheEntry[];
  readonly #state: State;
  readonly #runtime: Runtime;
  readonly #owned: Disposable[];
  readonly #prefill: Plan;
  readonly #score: Plan;

  /**
   * @param options `owned`: what is disposed together with the ranker
   * @throws LongerError ERR_CONFIG for a precision that the model cannot be served in
   */
  constructor(model: ModelDescription, state: State, runtime: Runtime, { precision = 'fp32', owned = [] }: { readonly precision?: Precision; readonly owned?: readonly Disposable[] } = {}) {
    checkPrecision(precision, model.full().graph, 'precision');
    this.model = model;
    this.precision = precision;
    this.#cache = model.cacheIn(precision);
    this.#state = state;
    this.#runtime = runtime;
    this.#owned = [...owned];
    this.#prefill = new Plan(lower(model.prefill(precision), model.layout), state, runtime);
    this.#score = new Plan(lower(model.score(precision), model.layout), state, runtime);
  }

  /**
   * Opens the newest checkpoint of a model directory, or a step's own directory.
   * @throws LongerError ERR_CHECKPOINT for what cannot be loaded, ERR_SCHEMA where the model has another schema than the one given
   */
  static async open<S extends SchemaSpec = SchemaSpec>(directory: string, options: RankerOptions<S> = {}): Promise<Ranker<S>> {
    const checkpoint = await loadCheckpoint(directory, { optimizer: false });
    const config = checkpoint.config['model'] as unknown as ModelConfig | undefined;
    if (!config) throw new LongerError('ERR_CHECKPOINT', 'the manifest holds no model configuration', { place: checkpoint.directory });
    const schema = schemaFromJSON(checkpoint.schema);
    if (options.schema && options.schema.hash !== schema.hash)
      throw new LongerError('ERR_SCHEMA', 'the model was trained with another schema', {
        place: checkpoint.directory, remedy: 'Give the schema of training, or none: the checkpoint holds it',
      });
    const model = new ModelDescription(schema, config);
    const runtime = options.runtime ?? new Runtime({ threads: options.threads });
    const state = new State(model.layout.stores());
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
   * Computes what no candidate can change, for one or many requests.
   * @param requests users, contexts, times and histories; candidates that they bring are what `score` scores by default
   * @throws LongerError ERR_DATA naming request and feature
   */
  async prefill(requests: readonly (HistoryOf<S> | RequestOf<S> | EncodedRequest)[], signal?: AbortSignal): Promise<Prefilled> {
    const { schema, config } = this.model;
    const encoded = requests.map((r, i) => (isEncoded(r) ? r : encodeRequest(schema, { candidates: [], ...r } as never, `request ${i}`)));
    const inputs = this.model.historyInputs(packBatch(schema, encoded, historyForm(config)));
    const arrays = new Map(this.#cache.map((e) => [e.name, new (e.dtype === 'bf16' ? Uint16Array : Float32Array)(sizeOf(e.rows, inputs.sizes) * e.width)]));
    await this.#prefill.run(inputs.sizes, inputs.arrays, new Map([...arrays].map(([name, a]) => [`cache.${name}`, a])), { signal });
    return { requests: encoded, inputs, arrays };
  }

  /**
   * Scores candidates against the cache.
   * @param candidates a list for each request of the prefill, in its order; default: those that the requests brought
   * @returns logits f32 [candidates of all requests, tasks]; sigmoid makes them probabilities
   * @throws LongerError ERR_SHAPE for another number of lists, ERR_DATA naming request and feature
   */
  async score(prefilled: Prefilled, candidates: readonly (CandidatesOf<S> | EncodedCandidates)[] = prefilled.requests, signal?: AbortSignal): Promise<Float32Array> {
    if (candidates.length !== prefilled.requests.length)
      throw new LongerError('ERR_SHAPE', `the cache holds ${prefilled.requests.length} requests, ${candidates.length} candidate lists were given`);
    const { schema } = this.model;
    const encoded = candidates.map((c, i) => ('labels' in c && c.labels instanceof Float32Array ? (c as EncodedCandidates) : encodeCandidates(schema, c as never, undefined, `request ${i}`)));
    const batch = packCandidates(schema, encoded);
    const { sizes, arrays } = this.model.candidateInputs(prefilled.inputs, batch);
    const inputs = new Map<string, NumericArray>(arrays);
    for (const [name, array] of prefilled.arrays) inputs.set(`cache.${name}`, array);
    const logits = new Float32Array(batch.candidates * schema.tasks.length);
    await this.#score.run(sizes, inputs, new Map([['logits', logits]]), { signal });
    return logits;
  }

  /**
   * Whether requests with candidates score the same bits by the full forward pass, from the cache, alone, in a batch and
   * with other numbers of threads. On the CPU they do; a false `equal` is a bug of this library.
   */
  verifyParity(requests: readonly (RequestOf<S> | EncodedRequest)[]): Promise<ParityReport> {
    const encoded = requests.map((r, i) => (isEncoded(r) ? r : encodeRequest(this.model.schema, r as never, `request ${i}`)));
    return checkParity(this.model, this.#state, this.#runtime, encoded, this.precision);
  }

  dispose(): void {
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#prefill.dispose();
    this.#score.dispose();
    for (const o of this.#owned) o[Symbol.dispose]();
  }
}

function isEncoded(request: object): request is EncodedRequest {
  return 'eventTime' in request && request.eventTime instanceof Float64Array;
}
