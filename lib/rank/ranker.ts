import { packBatch, type Batch } from '../data/batch.ts';
import { LongerError } from '../errors.ts';
import { lower } from '../graph/lower.ts';
import { sizeOf } from '../graph/dim.ts';
import { loadCheckpoint } from '../model/checkpoint.ts';
import type { ModelConfig } from '../model/config.ts';
import { ModelDescription } from '../model/model.ts';
import { Plan, Runtime, State } from '../native/plan.ts';
import type { NumericArray } from '../native/types.ts';
import type { EncodedRequest } from '../schema/encode.ts';
import { schemaFromJSON } from '../schema/schema.ts';

/** The candidate-independent part of requests, computed once: keys and values of every layer and what the head reads. */
export interface Prefilled {
  readonly requests: readonly EncodedRequest[];
  readonly batch: Batch;
  /** By cache name: f32 [rows, width], rows of all requests end to end. */
  readonly arrays: ReadonlyMap<string, Float32Array>;
}

export interface RankerOptions {
  readonly threads?: number;
  readonly runtime?: Runtime;
}

/**
 * Scores candidates from an exact cache: prefill once a request, score as often as wanted (spec 6). On the CPU the
 * logits are the same bits as those of the full forward pass, alone or in a batch, for any number of threads.
 */
export class Ranker implements Disposable {
  readonly model: ModelDescription;
  readonly #state: State;
  readonly #runtime: Runtime;
  readonly #owned: Disposable[];
  readonly #prefill: Plan;
  readonly #score: Plan;

  /** @param owned what is disposed together with the ranker */
  constructor(model: ModelDescription, state: State, runtime: Runtime, owned: readonly Disposable[] = []) {
    this.model = model;
    this.#state = state;
    this.#runtime = runtime;
    this.#owned = [...owned];
    this.#prefill = new Plan(lower(model.prefill(), model.layout), state, runtime);
    this.#score = new Plan(lower(model.score(), model.layout), state, runtime);
  }

  /** Opens the newest checkpoint of a model directory, or a step's own directory. */
  static async open(directory: string, options: RankerOptions = {}): Promise<Ranker> {
    const checkpoint = await loadCheckpoint(directory, { optimizer: false });
    const config = checkpoint.config['model'] as unknown as ModelConfig | undefined;
    if (!config) throw new LongerError('ERR_CHECKPOINT', 'the manifest holds no model configuration', { place: checkpoint.directory });
    const model = new ModelDescription(schemaFromJSON(checkpoint.schema), config);
    const runtime = options.runtime ?? new Runtime({ threads: options.threads });
    const state = new State(model.layout.stores());
    model.load(state, checkpoint.tensors);
    return new Ranker(model, state, runtime, options.runtime ? [state] : [state, runtime]);
  }

  get state(): State {
    return this.#state;
  }

  get runtime(): Runtime {
    return this.#runtime;
  }

  /** Computes and keeps what no candidate can change, for one or many requests. Their candidates are not read. */
  async prefill(requests: readonly EncodedRequest[], signal?: AbortSignal): Promise<Prefilled> {
    const batch = packBatch(this.model.schema, requests, { maxHistory: this.model.config.maxHistory });
    const { sizes, arrays } = this.model.inputs(batch);
    const cache = new Map<string, Float32Array>(this.model.cache.map((e) => [e.name, new Float32Array(sizeOf(e.rows, sizes) * e.width)]));
    await this.#prefill.run(sizes, arrays, new Map([...cache].map(([name, a]) => [`cache.${name}`, a])), { signal });
    return { requests, batch, arrays: cache };
  }

  /**
   * Logits [candidates * tasks] of the requests' candidates, requests in the order of the prefill.
   * @param candidates requests that bring other candidates for the same users; default: those given to prefill
   */
  async score(prefilled: Prefilled, candidates: readonly EncodedRequest[] = prefilled.requests, signal?: AbortSignal): Promise<Float32Array> {
    if (candidates.length !== prefilled.requests.length)
      throw new LongerError('ERR_SHAPE', `the cache holds ${prefilled.requests.length} requests, ${candidates.length} candidate lists were given`);
    const batch = candidates === prefilled.requests ? prefilled.batch : packBatch(this.model.schema, candidates.map((c, i) => ({ ...prefilled.requests[i]!, ...candidateSideOf(c) })), { maxHistory: this.model.config.maxHistory });
    const { sizes, arrays } = this.model.inputs(batch);
    const inputs = new Map<string, NumericArray>(arrays);
    for (const [name, array] of prefilled.arrays) inputs.set(`cache.${name}`, array);
    const logits = new Float32Array(batch.candidates * this.model.schema.tasks.length);
    await this.#score.run(sizes, inputs, new Map([['logits', logits]]), { signal });
    return logits;
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

/** The fields of an encoded request that belong to its candidates. */
function candidateSideOf(request: EncodedRequest): Pick<EncodedRequest, 'candidate' | 'candidates' | 'labels'> {
  return { candidate: request.candidate, candidates: request.candidates, labels: request.labels };
}
