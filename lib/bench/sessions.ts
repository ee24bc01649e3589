import { packBatch, type Batch } from '../data/batch.ts';
import { historyForm } from '../model/config.ts';
import { fullPlan, ModelDescription } from '../model/model.ts';
import { type Plan, State } from '../native/plan.ts';
import { Runtime, type RuntimeOptions } from '../native/runtime.ts';
import { Ranker } from '../rank/ranker.ts';
import type { EncodedRequest } from '../schema/encode.ts';
import { Trainer } from '../train/trainer.ts';
import { trainDefaults, type TrainOptions } from '../train/options.ts';
import { benchSchema, type BenchPreset } from './presets.ts';

export type Precision = 'fp32' | 'tf32' | 'bf16' | 'fp16';

/** A model in training, with what it owns. */
export class TrainSession implements Disposable {
  readonly runtime: Runtime;
  readonly trainer: Trainer;

  constructor(preset: BenchPreset, options: RuntimeOptions & { readonly precision?: Precision } & Partial<TrainOptions>) {
    const { threads, niceness, device, ...train } = options;
    this.runtime = new Runtime({ threads, niceness, device });
    // A constant small rate: the figures are those of a run that stays healthy.
    this.trainer = new Trainer(new ModelDescription(benchSchema, preset.model), {
      ...trainDefaults, schedule: { warmup: 0, kind: 'constant', floor: 1 }, dense: { ...trainDefaults.dense, learningRate: 1e-4 }, ...train,
    }, this.runtime);
  }

  /** Arena bytes that the plan promises for a batch. */
  promised(batch: Batch): number {
    return this.trainer.plan.memory(this.trainer.model.inputs(batch).sizes).arena;
  }

  [Symbol.dispose](): void {
    this.trainer.dispose();
    this.runtime.dispose();
  }
}

/** A model being served, with what it owns. */
export class ServeSession implements Disposable {
  readonly model: ModelDescription;
  readonly runtime: Runtime;
  readonly state: State;
  readonly ranker: Ranker;
  readonly #full;

  constructor(preset: BenchPreset, { precision = 'fp32', ...options }: RuntimeOptions & { readonly precision?: Precision }) {
    this.model = new ModelDescription(benchSchema, preset.model);
    this.runtime = new Runtime(options);
    this.state = new State(this.model.layout.stores(), this.runtime);
    this.model.initialise(this.state, 1);
    this.ranker = new Ranker(this.model, this.state, this.runtime, { precision });
    this.#full = fullPlan(this.model, this.state, this.runtime, precision);
  }

  /** Logits by the full forward pass, without a cache. */
  full(requests: readonly EncodedRequest[]): Promise<Float32Array> {
    return fullLogits(this.#full, this.model, requests);
  }

  [Symbol.dispose](): void {
    this.#full.dispose();
    this.ranker.dispose();
    this.state.dispose();
    this.runtime.dispose();
  }
}

/** Logits by a plan of the full forward pass. */
export async function fullLogits(plan: Plan, model: ModelDescription, requests: readonly EncodedRequest[]): Promise<Float32Array> {
  const batch = packBatch(model.schema, requests, historyForm(model.config));
  const { sizes, arrays } = model.inputs(batch);
  const logits = new Float32Array(batch.candidates * model.schema.tasks.length);
  await plan.run(sizes, arrays, new Map([['logits', logits]]));
  return logits;
}
