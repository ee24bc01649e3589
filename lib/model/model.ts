import { type Batch, type CandidateBatch, firstKept } from '../data/batch.ts';
import { LongerError } from '../errors.ts';
import { type Dim, fixed, symbol, type Symbols } from '../graph/dim.ts';
import { Graph, type Value } from '../graph/graph.ts';
import { lower, ParameterLayout, type Placement, tableStore } from '../graph/lower.ts';
import { gatherRows } from '../graph/ops/gather_rows.ts';
import { inferenceGraph } from '../graph/passes/inference.ts';
import { cpuTarget, type Target } from '../graph/passes/inner_transformer.ts';
import type { Precision } from '../graph/passes/precision.ts';
import { elementBytes } from '../native/dtype.ts';
import { Plan, type State } from '../native/plan.ts';
import type { Runtime } from '../native/runtime.ts';
import { expectSchema, type Schema } from '../schema/schema.ts';
import { baselineCacheRows, baselineCandidateSide, baselineUserSide } from './baselines/baselines.ts';
import { appendRefusal, appendRemedy } from './append.ts';
import { historyForm, type LongerConfig, longerDefaults, type ModelConfig } from './config.ts';
import { checkConfig } from './shape.ts';
import { type Cache } from './head.ts';
import { initialValues } from './init.ts';
import { indexInput } from './layers.ts';
import { joinLayouts, layoutBatch, layoutCandidates, layoutHistory, type ModelInputs } from './layout.ts';
import { cacheRows, candidateSide, isKeyOrValue, ofKeys, userSide } from './longer.ts';
import { anchorCount, candidateRowCount } from './visibility.ts';

/** Name, rows, width and type of a value that prefill gives and score takes. */
export interface CacheEntry {
  readonly name: string;
  readonly rows: Dim;
  readonly width: number;
  readonly dtype: 'f32' | 'bf16' | 'f16';
}

/**
 * A model as described: its schema, its configuration and the graphs made from both. The graphs share parameters by
 * name, so that training, full evaluation, prefill and cached scoring are the same mathematics.
 */
export class ModelDescription {
  readonly schema: Schema;
  readonly config: ModelConfig;
  /** Where every parameter lives. */
  readonly layout: ParameterLayout;
  /** What prefill gives and score takes, in fp32; `cacheIn` has it for another precision. */
  readonly cache: readonly CacheEntry[];

  /** @throws LongerError ERR_CONFIG for a setting that no model can be built from. */
  constructor(schema: Schema, config: ModelConfig) {
    expectSchema(schema);
    // A checkpoint from before an option has no value of it.
    if ((config as Partial<ModelConfig> | null | undefined)?.kind === 'longer') config = { ...longerDefaults, ...(config as LongerConfig) };
    checkConfig(config);
    if (schema.sides.candidate.fields.length === 0 && schema.sides.candidate.numericCount === 0)
      throw new LongerError('ERR_SCHEMA', 'a candidate needs at least one feature', { place: 'schema.candidate' });
    if (config.kind === 'longer' && config.globals.uid !== null) {
      const name = config.globals.uid;
      if (!schema.sides.user.fields.some((f) => f.name === name && f.kind === 'id'))
        throw new LongerError('ERR_CONFIG', `there is no single-valued user feature '${name}'`, { place: 'model.globals.uid' });
    }
    this.schema = schema;
    this.config = config;
    const graph = new Graph();
    const cache = this.userSide(graph);
    this.#candidateSide(graph, cache);
    this.layout = new ParameterLayout(graph.parameters.values());
    const rows = config.kind === 'longer' ? cacheRows(config) : baselineCacheRows;
    this.cache = Object.entries(cache).map(([name, value]) => ({ name, rows: rows(name), width: value.dims[1]!.constant, dtype: 'f32' as const }));
  }

  /** The cache as the prefill graph of a precision types it. */
  cacheIn(policy: Precision): readonly CacheEntry[] {
    const { outputs } = this.prefill(policy);
    return this.cache.map((e) => ({ ...e, dtype: outputs.get(`cache.${e.name}`)!.dtype as CacheEntry['dtype'] }));
  }

  /** History and candidates in one pass, in fp32 and with nothing pruned: what training differentiates. */
  full(): { graph: Graph; logits: Value } {
    const graph = new Graph();
    const logits = this.#candidateSide(graph, this.userSide(graph));
    return { graph, logits };
  }

  /** History and candidates in one pass: output `logits` f32 [candidates, tasks]. */
  forward(policy: Precision = 'fp32', target: Target = cpuTarget): Graph {
    const { graph, logits } = this.full();
    graph.output('logits', logits);
    return inferenceGraph(graph, policy, target, [logits]);
  }

  /** The candidate-independent part, once a request: outputs `cache.<name>`. */
  prefill(policy: Precision = 'fp32', target: Target = cpuTarget): Graph {
    const graph = new Graph();
    for (const [name, value] of Object.entries(this.userSide(graph))) graph.output(`cache.${name}`, value);
    return inferenceGraph(graph, policy, target);
  }

  /**
   * What an append computes: the inputs `past.<name>` are an earlier cache, the outputs `cache.<name>` what a prefill of the grown history gives.
   * @throws LongerError ERR_CONFIG for a model under which nothing holds when a history grows; `appendRefusal` says why
   */
  append(policy: Precision = 'fp32', target: Target = cpuTarget): Graph {
    const { config } = this;
    const refusal = appendRefusal(this.schema, config);
    if (refusal !== null || config.kind !== 'longer') throw new LongerError('ERR_CONFIG', `the cache cannot be appended to: ${refusal}`, { place: 'model', remedy: appendRemedy });
    const graph = new Graph();
    const entries = new Map(this.cacheIn(policy).map((e) => [e.name, e]));
    const join = (name: string, fresh: Value): Value => {
      const { dtype, width } = entries.get(name)!;
      const past = graph.input(`past.${name}`, dtype, [symbol(ofKeys(name) ? 'past.keys' : 'past.rows'), fixed(width)]);
      return gatherRows(graph, ofKeys(name) ? indexInput(graph, 'key.join', symbol('keys')) : indexInput(graph, 'row.join', symbol('sequence')), past, fresh);
    };
    for (const [name, value] of Object.entries(userSide(graph, this.schema, config, { join }))) graph.output(`cache.${name}`, value);
    return inferenceGraph(graph, policy, target);
  }

  /** Candidates against the cache: inputs `cache.<name>`, output `logits` f32 [candidates, tasks]. */
  score(policy: Precision = 'fp32'): Graph {
    const graph = new Graph();
    const cache = Object.fromEntries(this.cacheIn(policy).map((e) => [e.name, graph.input(`cache.${e.name}`, e.dtype, [e.rows, fixed(e.width)])]));
    const logits = this.#candidateSide(graph, cache);
    graph.output('logits', logits);
    return inferenceGraph(graph, policy, cpuTarget, [logits]);
  }

  /** Sizes and arrays of a batch for any of the graphs. */
  inputs(batch: Batch): ModelInputs {
    return layoutBatch(this.config, batch);
  }

  /** The same for the prefill graph, which reads no candidates. */
  historyInputs(batch: Batch): ModelInputs {
    return layoutHistory(this.config, batch);
  }

  /** The same for the score graph: other candidates against the history inputs of a prefill. */
  candidateInputs(history: ModelInputs, candidates: CandidateBatch): ModelInputs {
    return joinLayouts(this.config, history, layoutCandidates(this.config, candidates));
  }

  /** Writes the first values of all parameters. */
  initialise(state: State, seed: number): void {
    for (const [name, data] of initialValues(this.layout, seed)) {
      const { store, offset } = this.layout.place(name);
      state.write(store, offset, data);
    }
  }

  /** All parameters by name, as checkpoints hold them; the dense ones from a store of the same layout. */
  parameters(state: State, denseStore = 'dense'): Map<string, { data: Float32Array; shape: number[] }> {
    const result = new Map<string, { data: Float32Array; shape: number[] }>();
    for (const [name, { shape }] of [...this.layout.dense, ...this.layout.tables]) {
      const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
      const { store, offset } = this.layout.place(name);
      state.read(store === 'dense' ? denseStore : store, offset, data);
      result.set(name, { data, shape: [...shape] });
    }
    return result;
  }

  /** @throws LongerError ERR_CHECKPOINT where a parameter is missing or of another shape; nothing is written then. */
  load(state: State, tensors: ReadonlyMap<string, { data: Float32Array | Int32Array | Float64Array; shape: readonly number[] }>): void {
    const all = [...this.layout.dense, ...this.layout.tables];
    for (const [name, { shape }] of all) {
      const tensor = tensors.get(name);
      if (!tensor) throw new LongerError('ERR_CHECKPOINT', `the checkpoint has no tensor '${name}'`, { remedy: 'It was saved by a model of another configuration' });
      if (tensor.shape.join() !== shape.join())
        throw new LongerError('ERR_CHECKPOINT', `the tensor '${name}' has shape [${tensor.shape.join(', ')}], the model needs [${shape.join(', ')}]`);
    }
    for (const [name] of all) {
      const { store, offset } = this.layout.place(name);
      state.write(store, offset, tensors.get(name)!.data);
    }
  }

  /** What a run will cost, without running: spec 4.2's convention, 2 FLOPs a multiply-add, no causal discount. */
  cost(historyLength: number, policy: Precision = 'fp32'): { parameters: number; flopsPerRequest: number; flopsPerCandidate: number; kvBytesPerUser: number } {
    const sizes = this.sizesOf(1, historyLength, 1);
    const kv = this.cacheIn(policy)
      .filter((e) => isKeyOrValue(e.name))
      .reduce((sum, e) => sum + elementBytes[e.dtype] * e.width * [...e.rows.terms].reduce((n, [s, c]) => n + c * (sizes[s] ?? 0), e.rows.constant), 0);
    return { parameters: this.layout.count(), flopsPerRequest: this.prefill().flops(sizes), flopsPerCandidate: this.score().flops(sizes), kvBytesPerUser: kv };
  }

  /** Sizes of a batch of equal requests. */
  sizesOf(requests: number, historyLength: number, candidates: number): Symbols {
    const form = historyForm(this.config);
    const first = firstKept(this.schema, form, { historyStart: 0, events: historyLength });
    const events = historyLength - first;
    const offsets = (each: number): Int32Array => Int32Array.from({ length: requests + 1 }, (_, r) => r * each);
    const each = (n: number): Int32Array => new Int32Array(requests).fill(n);
    const columns = new Map([['event.offsets', offsets(events)], ['candidate.offsets', offsets(candidates)]]);
    const batch = { form, requests, events: requests * events, candidates: requests * candidates, eventCounts: each(events), firstEvents: each(first), candidateCounts: each(candidates), columns, encoded: [] };
    const { sizes } = layoutBatch(this.config, batch);
    for (const side of ['user', 'context', 'event', 'candidate'] as const)
      for (const f of this.schema.sides[side].fields)
        if (f.kind === 'ids') sizes[`${side}.${f.name}.ids`] = side === 'event' ? batch.events : side === 'candidate' ? batch.candidates : requests;
    return sizes;
  }

  /** What no candidate can change, by cache name. */
  userSide(graph: Graph): Cache {
    return this.config.kind === 'longer' ? userSide(graph, this.schema, this.config) : baselineUserSide(graph, this.schema, this.config);
  }

  #candidateSide(graph: Graph, cache: Cache): Value {
    return this.config.kind === 'longer'
      ? candidateSide(graph, this.schema, this.config, cache)
      : baselineCandidateSide(graph, this.schema, this.config, cache);
  }
}

/**
 * The full forward pass as a plan of its own: inputs of `model.inputs`, output `logits`.
 * @param denseStore where the dense parameters are read
 */
export function fullPlan(model: ModelDescription, state: State, runtime: Runtime, policy: Precision = 'fp32', denseStore = 'dense'): Plan {
  return planOf(model, model.forward(policy, runtime), state, runtime, denseStore);
}

/** A graph of the model as a plan over its parameters. @param denseStore where the dense ones are read */
export function planOf({ layout }: ModelDescription, graph: Graph, state: State, runtime: Runtime, denseStore: string): Plan {
  return new Plan(lower(graph, layout, parameterPlaces(graph, layout, denseStore)), state, runtime);
}

/** Dense parameters in another store of the same layout (a moving average of them). */
function parameterPlaces(graph: Graph, layout: ParameterLayout, denseStore: string): Map<Value, Placement> {
  return new Map([...graph.parameters].flatMap(([name, value]) => (value.parameter!.sparse ? [] : [[value, { store: denseStore, offset: layout.place(name).offset }] as const])));
}

/** Global rows of a LONGER model: m of the paper. */
export function globalCount(config: LongerConfig): number {
  return anchorCount(config) + candidateRowCount(config);
}

export { symbol, tableStore };
