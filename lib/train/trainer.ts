import type { Batch } from '../data/batch.ts';
import { joined } from '../data/joined.ts';
import { LongerError } from '../errors.ts';
import { checkPrecision } from '../graph/passes/precision.ts';
import { type Checkpoint, type JsonObject, saveCheckpoint } from '../model/checkpoint.ts';
import { fullPlan, type ModelDescription } from '../model/model.ts';
import { checkParity, type ParityReport } from '../model/parity.ts';
import type { Tensor } from '../model/safetensors.ts';
import { Plan, State, type StateHome } from '../native/plan.ts';
import type { Runtime } from '../native/runtime.ts';
import type { NumericArray } from '../native/types.ts';
import type { EncodedRequest } from '../schema/encode.ts';
import { numericError } from './diagnose.ts';
import { MetricSet } from './metric_set.ts';
import { sigmoid } from './metrics.ts';
import { scheduleFactor, type TrainOptions } from './options.ts';
import { withPolicyThatFits } from './out_of_memory.ts';
import { checkTrainOptions } from './shape.ts';
import { averageDecay, gradientStep, initialiseStep, lossScaleStore, passingStores, rateInputs, type StepOptions, type TableGradient, trainStep, type TrainStep, updateStep } from './step.ts';

/** What one step did. */
export interface StepReport {
  /** 1 for the first step. */
  readonly step: number;
  /** Mean over labelled candidates of the cross entropy in nats, tasks summed by their weights; before the update. */
  readonly loss: number;
  /** The same of each task, unweighted. */
  readonly perTask: Float32Array;
  /** Global norms of the gradients before clipping. */
  readonly norm: { readonly dense: number; readonly sparse: number };
  /** Of dense parameters, by the schedule. */
  readonly learningRate: number;
  /** Microseconds on the native thread. */
  readonly elapsed: number;
  readonly requests: number;
  readonly events: number;
  readonly candidates: number;
  /** The step met a NaN or Inf and was left out: in fp16, most often gradients too large for the loss scale. */
  readonly skipped: boolean;
  /** What the loss was multiplied by in this step; null where precision is not fp16. */
  readonly lossScale: number | null;
}

/** The optimizer's tensor that holds the trained dense parameters where the saved ones are their average. */
const rawDense = 'dense.raw';

/** What a step gives before it is judged. */
interface Outcome {
  readonly loss: number;
  readonly perTask: Float32Array;
  readonly norm: { readonly dense: number; readonly sparse: number };
  readonly elapsed: number;
  readonly lossScale: number | null;
  /** Runs the step once more and names the first operation that writes a NaN or Inf. Nothing is updated. */
  readonly firstBad: () => Promise<string | undefined>;
}

/** Trains one model: owns its parameters, optimizer state and compiled step. */
export class Trainer implements Disposable {
  readonly model: ModelDescription;
  readonly options: TrainOptions;
  readonly runtime: Runtime;
  readonly state: State;
  readonly compiled: TrainStep;
  readonly #plan: Plan;
  readonly #stepOptions: StepOptions;
  /** What an update gives in fp16 beside the norms. */
  readonly #scaled: readonly 'loss_scale'[];
  #accumulation: { readonly gradients: Plan; readonly update: Plan; readonly tables: readonly TableGradient[] } | undefined;
  #evaluation: Plan | undefined;
  #step = 0;
  #skipped = 0;
  /** The step under way: the next one begins behind it. */
  #last: Promise<unknown> = Promise.resolve();
  /** Steps of the whole run, for the schedule (`countSteps`); 0 while unknown: then the rate does not decay. */
  totalSteps = 0;

  /**
   * @param home `reference` computes everything in double, on the CPU
   * @throws LongerError ERR_CONFIG that names the setting
   */
  constructor(model: ModelDescription, options: TrainOptions, runtime: Runtime, home: StateHome = runtime) {
    checkTrainOptions(options);
    checkPrecision(options.precision, model.full().graph, 'train.precision', typeof home === 'string' ? home : home.backend);
    this.model = model;
    this.options = options;
    this.runtime = runtime;
    const step = { ...options, ...budgetMeasure(model, options, runtime), target: runtime };
    this.#stepOptions = step;
    this.compiled = trainStep(model, step);
    this.#scaled = this.compiled.graph.outputs.has('loss_scale') ? ['loss_scale'] : [];
    this.state = new State([...model.layout.stores(), ...this.compiled.stores], home);
    model.initialise(this.state, options.seed);
    initialiseStep(this.state, model.layout, step);
    if (options.ema > 0) this.state.write('dense.average', 0, this.#dense('dense'));
    this.#plan = new Plan(this.compiled.spec, this.state, runtime);
    if (options.accumulate > 1) {
      const gradients = gradientStep(model, step);
      const plan = (spec: TrainStep['spec']): Plan => new Plan(spec, this.state, runtime);
      this.#accumulation = { gradients: plan(gradients.spec), update: plan(updateStep(model, gradients.tables, step).spec), tables: gradients.tables };
    }
  }

  get step(): number {
    return this.#step;
  }

  /** Steps that met a NaN or Inf and were left out, of all so far. */
  get skippedSteps(): number {
    return this.#skipped;
  }

  /** Compiled step, for its memory and profile. */
  get plan(): Plan {
    return this.#plan;
  }

  /** Store of the dense parameters that are evaluated and saved: the trained ones, or their moving average. */
  get denseStore(): 'dense' | 'dense.average' {
    return this.options.ema > 0 ? 'dense.average' : 'dense';
  }

  /**
   * One synchronous update of dense and sparse parameters. Steps that are asked for together are done one after another, in the order of the calls.
   * @param batch one batch, or up to `accumulate` micro-batches that count as one batch: dense gradients are summed, sparse
   *   ones joined, the loss is the mean over all their labelled candidates
   * @param signal leaves the step out, unless its updates have begun: then it is finished, and its report is given
   * @throws LongerError ERR_DATA for what `packBatch` did not make; ERR_NUMERIC with the step, the first operation that gave a NaN or Inf, and the feature where it came in; ERR_MEMORY with the
   *   largest values and the recompute policy that would fit
   */
  train(batch: Batch | readonly Batch[], signal?: AbortSignal): Promise<StepReport> {
    const step = this.#last.then(() => this.#train(Array.isArray(batch) ? (batch as readonly Batch[]) : [batch as Batch], signal));
    this.#last = step.catch(() => undefined);
    return step;
  }

  async #train(batches: readonly Batch[], signal: AbortSignal | undefined): Promise<StepReport> {
    for (const batch of batches) expectBatch(batch);
    if (batches.length < 1 || batches.length > this.options.accumulate)
      throw new LongerError('ERR_CONFIG', `a step takes 1 to ${this.options.accumulate} batches, got ${batches.length}`, { place: 'train.accumulate' });
    const { dense, sparse, schedule, sparseSchedule, ema, accumulate } = this.options;
    const step = this.#step + 1;
    const update = step - this.#skipped;
    const learningRate = dense.learningRate * scheduleFactor(schedule, step, this.totalSteps);
    const rates = rateInputs(this.compiled.rates, {
      dense: learningRate,
      weightDecay: dense.weightDecay,
      sparse: sparse.learningRate * scheduleFactor(sparseSchedule ?? schedule, step, this.totalSteps),
      update,
      average: ema > 0 ? averageDecay(ema, update) : 0,
    });
    const inputs = batches.map((b, i) => {
      const { sizes, arrays } = this.model.inputs(b);
      for (const [name, array] of rates) arrays.set(name, array);
      arrays.set('dropout.seed', Int32Array.of(this.options.seed, (step - 1) * accumulate + i + 1));
      return { sizes, arrays };
    });
    const outcome = await (inputs.length === 1 ? this.#whole(inputs[0]!, signal) : this.#accumulated(inputs, batches, rates, signal))
      .catch((error: unknown) => { throw this.#withPolicy(error, inputs); });
    const { loss, perTask, norm, elapsed, lossScale } = outcome;
    const skipped = !(Number.isFinite(loss) && Number.isFinite(norm.dense) && Number.isFinite(norm.sparse));
    // Gradients that are too large for f16 only because of the scale: it has been halved.
    const overflow = Number.isFinite(loss) && (lossScale ?? 1) > 1;
    if (skipped && !overflow && this.options.onNonFinite === 'stop') {
      const operation = await outcome.firstBad();
      if (lossScale !== null) this.state.write(lossScaleStore, 0, Float32Array.of(lossScale));
      throw numericError(this.model, this.state, batches, step, Number.isFinite(loss) ? 'gradient' : 'loss', operation);
    }
    this.#step = step;
    if (skipped) this.#skipped++;
    const sum = (of: (b: Batch) => number): number => batches.reduce((n, b) => n + of(b), 0);
    return { step, loss, perTask, norm, learningRate, elapsed, skipped, lossScale, requests: sum((b) => b.requests), events: sum((b) => b.events), candidates: sum((b) => b.candidates) };
  }

  async #whole({ sizes, arrays }: Inputs, signal: AbortSignal | undefined): Promise<Outcome> {
    const outputs = this.#outputs('loss', 'per_task', 'norm.dense', 'norm.sparse', ...this.#scaled);
    const { elapsed } = await this.#plan.run(sizes, arrays, outputs, { signal });
    return {
      loss: outputs.get('loss')![0]!, perTask: outputs.get('per_task')!, elapsed, lossScale: outputs.get('loss_scale')?.[0] ?? null,
      norm: { dense: outputs.get('norm.dense')![0]!, sparse: outputs.get('norm.sparse')![0]! },
      // The optimizers left the parameters alone, so the step gives the same once more.
      firstBad: () => firstNonFinite(this.#plan, sizes, arrays),
    };
  }

  async #accumulated(inputs: readonly Inputs[], batches: readonly Batch[], rates: ReadonlyMap<string, NumericArray>, signal: AbortSignal | undefined): Promise<Outcome> {
    const { gradients, update, tables } = this.#accumulation!;
    const totals = labelTotals(batches, this.model.schema.tasks.length);
    const clear = (): void => { this.state.write('dense.sum', 0, new Float32Array(this.model.layout.denseSize)); };
    clear();
    const perTask = new Float32Array(totals.length);
    const parts = tables.map(() => ({ rows: [] as Int32Array[], values: [] as Float32Array[] }));
    let loss = 0;
    let elapsed = 0;
    for (const { sizes, arrays } of inputs) {
      const outputs = new Map<string, NumericArray>(this.#outputs('loss', 'per_task'));
      arrays.set('label.totals', totals);
      for (const spec of gradients.outputs.filter((v) => v.name.startsWith('grad.')))
        outputs.set(spec.name, new (spec.dtype === 'i32' ? Int32Array : Float32Array)(gradients.elements(spec, sizes)));
      elapsed += (await gradients.run(sizes, arrays, outputs, { signal })).elapsed;
      tables.forEach(({ table, width }, t) => {
        const count = outputs.get(`grad.${table}.count`)![0]!;
        parts[t]!.rows.push((outputs.get(`grad.${table}.rows`) as Int32Array).subarray(0, count));
        parts[t]!.values.push((outputs.get(`grad.${table}.values`) as Float32Array).subarray(0, count * width));
      });
      loss += outputs.get('loss')![0]!;
      outputs.get('per_task')!.forEach((x, t) => { perTask[t]! += x; });
    }
    const firstBad = async (): Promise<string | undefined> => {
      clear();
      for (const { sizes, arrays } of inputs) {
        const name = await firstNonFinite(gradients, sizes, arrays);
        if (name !== undefined) return name;
      }
      return undefined;
    };
    if (!Number.isFinite(loss) && this.#scaled.length === 0) return { loss, perTask, norm: { dense: NaN, sparse: NaN }, elapsed, lossScale: null, firstBad };
    const sizes: Record<string, number> = {};
    const arrays = new Map<string, NumericArray>(rates);
    tables.forEach(({ table, symbol }, t) => {
      const rows = joined(parts[t]!.rows, Int32Array);
      sizes[symbol] = rows.length;
      arrays.set(`grad.${table}.rows`, rows).set(`grad.${table}.values`, joined(parts[t]!.values, Float32Array));
    });
    const outputs = this.#outputs('norm.dense', 'norm.sparse', ...this.#scaled);
    elapsed += (await update.run(sizes, arrays, outputs, { signal })).elapsed;
    return { loss, perTask, elapsed, lossScale: outputs.get('loss_scale')?.[0] ?? null, norm: { dense: outputs.get('norm.dense')![0]!, sparse: outputs.get('norm.sparse')![0]! }, firstBad };
  }

  #withPolicy(error: unknown, inputs: readonly Inputs[]): unknown {
    if (!(error instanceof LongerError && error.code === 'ERR_MEMORY')) return error;
    const plan = inputs.length === 1 ? this.#plan : this.#accumulation!.gradients;
    const largest = inputs.map(({ sizes }) => ({ sizes, arena: plan.memory(sizes).arena })).reduce((a, b) => (b.arena > a.arena ? b : a));
    const compile = inputs.length === 1 ? trainStep : gradientStep;
    return withPolicyThatFits(error, {
      policy: this.options.recompute, sizes: largest.sizes, state: this.state, runtime: this.runtime,
      compile: (recompute) => compile(this.model, { ...this.#stepOptions, recompute }).spec,
    });
  }

  #outputs(...names: readonly string[]): Map<string, Float32Array> {
    return new Map(names.map((name) => [name, new Float32Array(name === 'per_task' ? this.model.schema.tasks.length : 1)]));
  }

  /** Logits f32 [candidates, tasks] of a batch by the full forward pass; `sigmoid` makes them probabilities. */
  async predict(batch: Batch, signal?: AbortSignal): Promise<Float32Array> {
    expectBatch(batch);
    await this.#last;
    this.#evaluation ??= fullPlan(this.model, this.state, this.runtime, this.options.precision, this.denseStore);
    const { sizes, arrays } = this.model.inputs(batch);
    const logits = new Float32Array(batch.candidates * this.model.schema.tasks.length);
    await this.#evaluation.run(sizes, arrays, new Map([['logits', logits]]), { signal });
    return logits;
  }

  /** Exact metrics of the first task (or another) over batches. */
  async evaluate(batches: Iterable<Batch> | AsyncIterable<Batch>, task = 0, signal?: AbortSignal): Promise<MetricSet> {
    return [...(await this.evaluateTasks(batches, signal)).values()][task]!;
  }

  /** Exact metrics of every task, by name, in one pass over the batches. */
  async evaluateTasks(batches: Iterable<Batch> | AsyncIterable<Batch>, signal?: AbortSignal): Promise<Map<string, MetricSet>> {
    const { tasks } = this.model.schema;
    const sets = new Map(tasks.map((task) => [task.name, new MetricSet()]));
    for await (const batch of batches) {
      const logits = await this.predict(batch, signal);
      [...sets.values()].forEach((set, t) => { addPredictions(set, batch, logits, tasks.length, t); });
    }
    return sets;
  }

  /** Whether the trained model scores the same bits in every way that it ought to; see `checkParity`. */
  verifyParity(requests: readonly EncodedRequest[]): Promise<ParityReport> {
    return checkParity(this.model, this.state, this.runtime, requests, this.options.precision, this.denseStore);
  }

  /**
   * Saves what ranks, optimizer state and position, in a directory `step-…` of its own, atomically, behind the steps that were asked for before.
   * @param position comes back on resume, as `progress` of the checkpoint: plain JSON
   * @param keep newest checkpoints of the directory to keep
   * @returns the step's directory
   * @throws LongerError ERR_CHECKPOINT where it cannot be written
   */
  async save(directory: string, position: JsonObject = {}, keep = 3): Promise<string> {
    await this.#last;
    const optimizer = new Map<string, Tensor>();
    for (const { name, dtype, size } of this.compiled.stores) {
      if (passingStores.includes(name)) continue;
      const data = dtype === 'i32' ? new Int32Array(size) : new Float32Array(size);
      this.state.read(name, 0, data);
      optimizer.set(name, { data, shape: [size] });
    }
    if (this.denseStore !== 'dense') optimizer.set(rawDense, { data: this.#dense('dense'), shape: [this.model.layout.denseSize] });
    return saveCheckpoint(
      directory,
      {
        step: this.#step,
        config: { model: this.model.config, train: this.options },
        schema: this.model.schema.toJSON(),
        tensors: this.model.parameters(this.state, this.denseStore) as Map<string, Tensor>,
        optimizer,
        progress: { ...position, totalSteps: this.totalSteps, skippedSteps: this.#skipped },
      },
      { keep },
    );
  }

  /** Goes on where the checkpoint was saved: the same bits as without the interruption. */
  restore(checkpoint: Checkpoint): void {
    if (!checkpoint.optimizer) throw new LongerError('ERR_CHECKPOINT', 'the checkpoint has no optimizer state', { place: checkpoint.directory, remedy: 'Resume needs one saved by a trainer' });
    const wanted = this.compiled.stores.filter(({ name }) => !passingStores.includes(name));
    for (const { name } of wanted)
      if (!checkpoint.optimizer.has(name))
        throw new LongerError('ERR_CHECKPOINT', `the optimizer state '${name}' is missing`, { place: checkpoint.directory, remedy: 'Resume with the optimizers and the precision that the run was started with' });
    this.model.load(this.state, checkpoint.tensors);
    const raw = checkpoint.optimizer.get(rawDense);
    if (raw) this.state.write('dense', 0, raw.data);
    for (const { name } of wanted) this.state.write(name, 0, checkpoint.optimizer.get(name)!.data);
    this.#step = checkpoint.step;
    const { totalSteps, skippedSteps } = checkpoint.progress;
    if (typeof totalSteps === 'number') this.totalSteps = totalSteps;
    this.#skipped = typeof skippedSteps === 'number' ? skippedSteps : 0;
  }

  dispose(): void {
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#plan.dispose();
    this.#accumulation?.gradients.dispose();
    this.#accumulation?.update.dispose();
    this.#evaluation?.dispose();
    this.state.dispose();
  }

  #dense(store: string): Float32Array {
    return this.state.read(store, 0, new Float32Array(this.model.layout.denseSize));
  }
}

/** @throws LongerError ERR_DATA for what packBatch did not make */
function expectBatch(batch: Batch): void {
  if ((batch as Partial<Batch> | null | undefined)?.columns instanceof Map) return;
  throw new LongerError('ERR_DATA', 'expected a batch', { place: 'batch', remedy: 'packBatch(schema, encodedRequests, historyForm(config)) makes one' });
}

interface Inputs {
  readonly sizes: Readonly<Record<string, number>>;
  readonly arrays: Map<string, NumericArray>;
}

async function firstNonFinite(plan: Plan, sizes: Readonly<Record<string, number>>, arrays: ReadonlyMap<string, NumericArray>): Promise<string | undefined> {
  const { firstNonFinite: at } = await plan.run(sizes, arrays, new Map(), { checkFinite: true });
  const node = plan.nodes[at];
  return node && `${node.name} (${node.op})`;
}

/** Labelled candidates of each task. */
function labelTotals(batches: readonly Batch[], tasks: number): Float32Array {
  const totals = new Float32Array(tasks);
  for (const { columns } of batches) columns.get('labels')!.forEach((y, i) => { if (!Number.isNaN(y)) totals[i % tasks]!++; });
  return totals;
}

/** Adds a batch's predictions for one task. */
export function addPredictions(metrics: MetricSet, batch: Batch, logits: Float32Array, tasks: number, task: number): void {
  const labels = batch.columns.get('labels') as Float32Array | undefined;
  if (!labels) throw new LongerError('ERR_DATA', 'the requests have no labels', { remedy: 'Evaluation needs labelled candidates' });
  const probabilities = new Float32Array(batch.candidates);
  const truth = new Float32Array(batch.candidates);
  for (let c = 0; c < batch.candidates; ++c) {
    probabilities[c] = sigmoid(logits[c * tasks + task]!);
    truth[c] = labels[c * tasks + task]!;
  }
  metrics.add(batch.encoded.map((e) => e.userKey), probabilities, truth, batch.columns.get('candidate.offsets') as Int32Array);
}

/** For a memory budget: how the arena of a step is measured, at the largest batch that the limits let through. */
export function budgetMeasure(model: ModelDescription, options: TrainOptions, runtime: Runtime): Pick<Parameters<typeof trainStep>[1], 'measure' | 'sizes'> {
  if (typeof options.recompute === 'string') return {};
  const { maxEvents, maxRequests, maxCandidates } = options.batch;
  const requests = Math.max(1, Math.min(maxRequests, Math.ceil(maxEvents / Math.max(1, model.config.maxHistory))));
  const sizes = model.sizesOf(requests, model.config.maxHistory, Math.ceil(maxCandidates / requests));
  const stores = [...model.layout.stores(), ...trainStep(model, { ...options, recompute: 'none' }).stores];
  return {
    sizes,
    measure: (spec) => {
      // Measuring needs no optimizer contents: the state is made for its shapes and dropped again.
      const state = new State(stores, runtime);
      const plan = new Plan(spec, state, runtime);
      const { arena } = plan.memory(sizes);
      plan.dispose();
      state.dispose();
      return arena;
    },
  };
}
