import type { Batch } from '../data/batch.ts';
import { LongerError } from '../errors.ts';
import { lower } from '../graph/lower.ts';
import { inference } from '../graph/passes/inference.ts';
import { prune } from '../graph/passes/prune.ts';
import { type Checkpoint, type JsonObject, saveCheckpoint } from '../model/checkpoint.ts';
import { ModelDescription } from '../model/model.ts';
import type { Tensor } from '../model/safetensors.ts';
import { Plan, type Runtime, State } from '../native/plan.ts';
import type { Backend, NumericArray } from '../native/types.ts';
import { MetricSet } from './metric_set.ts';
import { checkTrainOptions, scheduleFactor, type TrainOptions } from './options.ts';
import { decayMask, trainStep, type TrainStep } from './step.ts';

export interface StepReport {
  /** 1 for the first step. */
  readonly step: number;
  readonly loss: number;
  readonly perTask: Float32Array;
  readonly norm: { readonly dense: number; readonly sparse: number };
  readonly learningRate: number;
  /** Microseconds on the native thread. */
  readonly elapsed: number;
  readonly requests: number;
  readonly events: number;
  readonly candidates: number;
  /** The step met a NaN or Inf and was left out. */
  readonly skipped: boolean;
}

/** Trains one model: owns its parameters, optimizer state and compiled step. */
export class Trainer implements Disposable {
  readonly model: ModelDescription;
  readonly options: TrainOptions;
  readonly runtime: Runtime;
  readonly state: State;
  readonly compiled: TrainStep;
  readonly #plan: Plan;
  #evaluation: Plan | undefined;
  #step = 0;
  /** Steps of the whole run, for the schedule; 0 while unknown. */
  totalSteps = 0;

  constructor(model: ModelDescription, options: TrainOptions, runtime: Runtime, backend: Backend = 'cpu') {
    checkTrainOptions(options);
    this.model = model;
    this.options = options;
    this.runtime = runtime;
    const step = { ...options, ...budgetMeasure(model, options, runtime) };
    this.compiled = trainStep(model, step);
    this.state = new State([...model.layout.stores(), ...this.compiled.stores], backend);
    model.initialise(this.state, options.seed);
    this.state.write('dense.decay', 0, decayMask(model.layout));
    this.#plan = new Plan(this.compiled.spec, this.state, runtime);
  }

  get step(): number {
    return this.#step;
  }

  /** Compiled step, for its memory and profile. */
  get plan(): Plan {
    return this.#plan;
  }

  /**
   * One synchronous update of dense and sparse parameters.
   * @throws LongerError ERR_NUMERIC with the step and the first operation that gave a NaN or Inf
   */
  async train(batch: Batch, signal?: AbortSignal): Promise<StepReport> {
    const { sizes, arrays } = this.model.inputs(batch);
    const step = this.#step + 1;
    const factor = scheduleFactor(this.options.schedule, step, this.totalSteps);
    const learningRate = this.options.dense.learningRate * factor;
    arrays.set('hyper', Float32Array.of(learningRate, this.options.dense.weightDecay, this.options.sparse.learningRate * factor, step, 0, 0, 0, 0));
    arrays.set('dropout.seed', Int32Array.of(this.options.seed, step));
    const outputs = new Map<string, Float32Array>([
      ['loss', new Float32Array(1)],
      ['per_task', new Float32Array(this.model.schema.tasks.length)],
      ['norm.dense', new Float32Array(1)],
      ['norm.sparse', new Float32Array(1)],
    ]);
    const { elapsed } = await this.#plan.run(sizes, arrays, outputs, { signal });
    const loss = outputs.get('loss')![0]!;
    const norm = { dense: outputs.get('norm.dense')![0]!, sparse: outputs.get('norm.sparse')![0]! };
    const skipped = !(Number.isFinite(loss) && Number.isFinite(norm.dense) && Number.isFinite(norm.sparse));
    if (skipped && this.options.onNonFinite === 'stop') throw await this.#diagnose(step, loss, sizes, arrays);
    this.#step = step;
    return {
      step, loss, perTask: outputs.get('per_task')!, norm, learningRate, elapsed, skipped,
      requests: batch.requests, events: batch.events, candidates: batch.candidates,
    };
  }

  /** Logits [candidates * tasks] of a batch by the full forward pass. */
  async predict(batch: Batch, signal?: AbortSignal): Promise<Float32Array> {
    this.#evaluation ??= fullPlan(this.model, this.state, this.runtime);
    const { sizes, arrays } = this.model.inputs(batch);
    const logits = new Float32Array(batch.candidates * this.model.schema.tasks.length);
    await this.#evaluation.run(sizes, arrays, new Map([['logits', logits]]), { signal });
    return logits;
  }

  /** Exact metrics of the first task (or another) over batches. */
  async evaluate(batches: Iterable<Batch> | AsyncIterable<Batch>, task = 0, signal?: AbortSignal): Promise<MetricSet> {
    const metrics = new MetricSet();
    for await (const batch of batches) addPredictions(metrics, batch, await this.predict(batch, signal), this.model.schema.tasks.length, task);
    return metrics;
  }

  /** Saves parameters, optimizer state and position; `position` comes back on resume. */
  async save(directory: string, position: JsonObject, keep = 3): Promise<string> {
    const optimizer = new Map<string, Tensor>();
    for (const { name, dtype, size } of this.compiled.stores) {
      if (name === 'dense.grad' || name === 'dense.decay') continue;
      const data = dtype === 'i32' ? new Int32Array(size) : new Float32Array(size);
      this.state.read(name, 0, data);
      optimizer.set(name, { data, shape: [size] });
    }
    return saveCheckpoint(
      directory,
      {
        step: this.#step,
        config: { model: this.model.config, train: this.options },
        schema: this.model.schema.toJSON(),
        tensors: this.model.parameters(this.state) as Map<string, Tensor>,
        optimizer,
        progress: { ...position, totalSteps: this.totalSteps },
      },
      { keep },
    );
  }

  /** Goes on where the checkpoint was saved: the same bits as without the interruption. */
  restore(checkpoint: Checkpoint): void {
    this.model.load(this.state, checkpoint.tensors);
    if (!checkpoint.optimizer) throw new LongerError('ERR_CHECKPOINT', 'the checkpoint has no optimizer state', { place: checkpoint.directory, remedy: 'Resume needs one saved by a trainer' });
    for (const { name } of this.compiled.stores) {
      if (name === 'dense.grad' || name === 'dense.decay') continue;
      const tensor = checkpoint.optimizer.get(name);
      if (!tensor) throw new LongerError('ERR_CHECKPOINT', `the optimizer state '${name}' is missing`, { place: checkpoint.directory, remedy: 'Resume with the optimizers that the run was started with' });
      this.state.write(name, 0, tensor.data);
    }
    this.#step = checkpoint.step;
    const total = checkpoint.progress['totalSteps'];
    if (typeof total === 'number') this.totalSteps = total;
  }

  dispose(): void {
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.#plan.dispose();
    this.#evaluation?.dispose();
    this.state.dispose();
  }

  async #diagnose(step: number, loss: number, sizes: Readonly<Record<string, number>>, arrays: ReadonlyMap<string, NumericArray>): Promise<LongerError> {
    // The optimizers left the parameters alone, so running the step once more shows where the number came from.
    const { firstNonFinite } = await this.#plan.run(sizes, arrays, new Map(), { checkFinite: true });
    const node = this.#plan.nodes[firstNonFinite];
    return new LongerError('ERR_NUMERIC', `step ${step} gave ${Number.isFinite(loss) ? 'a gradient' : 'a loss'} that is not finite`, {
      ...(node ? { place: `${node.name} (${node.op})` } : {}),
      remedy: 'Nothing was updated. Lower the learning rate, clip gradients, or look at the numeric features of this batch',
    });
  }
}

/** The full forward pass as a plan of its own. */
export function fullPlan(model: ModelDescription, state: State, runtime: Runtime): Plan {
  const { graph, logits } = model.full();
  graph.output('logits', logits);
  return new Plan(lower(prune(inference(graph)), model.layout), state, runtime);
}

export function sigmoid(x: number): number {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
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

function budgetMeasure(model: ModelDescription, options: TrainOptions, runtime: Runtime): Pick<Parameters<typeof trainStep>[1], 'measure' | 'sizes'> {
  if (typeof options.recompute === 'string') return {};
  const { maxEvents, maxRequests } = options.batch;
  const sizes = model.sizesOf(Math.max(1, Math.min(maxRequests, Math.ceil(maxEvents / Math.max(1, model.config.maxHistory)))), model.config.maxHistory, 1);
  const stores = [...model.layout.stores(), ...trainStep(model, { ...options, recompute: 'none' }).stores];
  return {
    sizes,
    measure: (spec) => {
      // Measuring needs no optimizer contents: the state is made for its shapes and dropped again.
      const state = new State(stores);
      const plan = new Plan(spec, state, runtime);
      const { arena } = plan.memory(sizes);
      plan.dispose();
      state.dispose();
      return arena;
    },
  };
}
