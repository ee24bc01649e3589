import { formulaFlops } from '../bench/presets.ts';
import { lower } from '../graph/lower.ts';
import { sizeOf } from '../graph/dim.ts';
import { modeOf, type Precision } from '../graph/passes/precision.ts';
import type { ModelDescription } from '../model/model.ts';
import { elementBytes } from '../native/dtype.ts';
import { Plan, State } from '../native/plan.ts';
import { Runtime } from '../native/runtime.ts';
import type { GraphSpec, StoreSpec } from '../native/types.ts';
import type { TrainOptions } from '../train/options.ts';
import { stepStores, trainStep } from '../train/step.ts';
import { budgetMeasure } from '../train/trainer.ts';

/** A batch of equal requests. */
export interface BatchShape {
  readonly requests: number;
  /** Events of each, at most the model's maxHistory. */
  readonly history: number;
  readonly candidates: number;
}

/** What a model costs, known before it runs. FLOPs: 2 a multiply-add, no discount for causality (spec 4.2). Bytes. */
export interface Cost {
  readonly parameters: number;
  /** Forward, of all operations: once a request, and for each candidate against the cache. */
  readonly flopsPerRequest: number;
  readonly flopsPerCandidate: number;
  /** By the paper's formulas, which count attention blocks alone: a request with one candidate, and each candidate more. null for baselines. */
  readonly paperFlops: { readonly request: number; readonly candidate: number } | null;
  /** Forward, backward and update of the batch. */
  readonly flopsPerStep: number;
  /** Keys and values of one user. */
  readonly kvBytesPerUser: number;
  readonly memory: {
    readonly parameters: number;
    readonly optimizer: number;
    /** Peak of a training step of the batch beside parameters and optimizer, its largest values first. */
    readonly step: number;
    readonly largest: readonly { readonly name: string; readonly bytes: number }[];
    /** Peak of a prefill of the batch, and the cache that it gives. */
    readonly prefill: number;
    readonly cache: number;
  };
}

/** What the CPU can measure in the place of what runs on a GPU only; values take as many bytes. */
function onCpu(policy: Precision): Precision {
  if (policy === 'tf32') return 'fp32';
  if (modeOf(policy) !== 'fp16') return policy;
  return typeof policy === 'string' ? 'bf16' : { ...policy, mode: 'bf16' };
}

/** @throws LongerError ERR_MEMORY where the tables alone cannot be had */
export function costOf(model: ModelDescription, train: TrainOptions, batch: BatchShape): Cost {
  const { config } = model;
  const sizes = model.sizesOf(batch.requests, batch.history, batch.candidates);
  using runtime = new Runtime({ threads: 1 });
  const here = { ...train, precision: onCpu(train.precision) };
  const step = trainStep(model, { ...here, ...budgetMeasure(model, here, runtime) });
  const measured = (spec: GraphSpec, stores: readonly StoreSpec[]) => {
    using state = new State(stores);
    using plan = new Plan(spec, state, runtime);
    return plan.memory(sizes);
  };
  const bytes = (stores: readonly StoreSpec[]): number => stores.reduce((n, s) => n + 4 * s.size, 0);
  const own = model.layout.stores();
  const { arena, largest } = measured(step.spec, [...own, ...step.stores]);
  const paper = config.kind === 'longer' ? [1, 2].map((n) => formulaFlops(config, batch.history, n)) : null;
  return {
    ...model.cost(batch.history, train.precision),
    paperFlops: paper && { request: paper[0]!, candidate: paper[1]! - paper[0]! },
    flopsPerStep: step.graph.flops(sizes),
    memory: {
      parameters: bytes(own), optimizer: bytes(stepStores(model.layout, train)), step: arena, largest,
      prefill: measured(lower(model.prefill(here.precision), model.layout), own).arena,
      cache: model.cacheIn(train.precision).reduce((n, e) => n + elementBytes[e.dtype] * e.width * sizeOf(e.rows, sizes), 0),
    },
  };
}
