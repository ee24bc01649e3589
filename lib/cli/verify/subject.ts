import { packBatch } from '../../data/batch.ts';
import { Dataset } from '../../data/reader.ts';
import { LongerError } from '../../errors.ts';
import { lower } from '../../graph/lower.ts';
import { inferenceGraph } from '../../graph/passes/inference.ts';
import type { Target } from '../../graph/passes/inner_transformer.ts';
import type { Precision } from '../../graph/passes/precision.ts';
import type { Checkpoint } from '../../model/checkpoint.ts';
import { historyForm, type LongerConfig } from '../../model/config.ts';
import { type CacheEntry, fullPlan, type ModelDescription } from '../../model/model.ts';
import type { ChosenDevice, DeviceName } from '../../native/device.ts';
import { arrayTypes } from '../../native/dtype.ts';
import { Plan, State } from '../../native/plan.ts';
import { Runtime } from '../../native/runtime.ts';
import { type Prefilled, Ranker } from '../../rank/ranker.ts';
import type { EncodedCandidates, EncodedRequest } from '../../schema/encode.ts';
import type { TrainOptions } from '../../train/options.ts';
import { Trainer } from '../../train/trainer.ts';
import { madeRequests } from './requests.ts';

/** Rows of some requests end to end. */
export interface LayerRows {
  /** Rows after each attention layer, [rows, width]; the cross layer first. */
  readonly layers: readonly (Float32Array | Uint16Array)[];
  /** First row of each request: i32 [requests + 1]. */
  readonly offsets: Int32Array;
}

/** A model with parameters and requests, as the proofs use it; every value in the model's own precision. */
export interface Subject extends Disposable {
  readonly model: ModelDescription;
  readonly precision: Precision;
  readonly requests: readonly EncodedRequest[];
  readonly device: ChosenDevice;
  /** Logits [candidates, tasks] by the full forward pass. */
  readonly forward: (requests: readonly EncodedRequest[], threads?: number) => Promise<Float32Array>;
  readonly prefill: (requests: readonly EncodedRequest[], threads?: number) => Promise<Prefilled>;
  readonly score: (prefilled: Prefilled, candidates?: readonly EncodedCandidates[], threads?: number) => Promise<Float32Array>;
  /** Of a LONGER model. */
  readonly layerRows: (requests: readonly EncodedRequest[]) => Promise<LayerRows>;
  /** A trainer that goes on from the model. */
  readonly trainer: (threads?: number) => Trainer;
}

export interface SubjectSource {
  readonly model: ModelDescription;
  /** Default: first values from a seed. */
  readonly checkpoint?: Checkpoint | undefined;
  readonly train: TrainOptions;
  readonly requests: readonly EncodedRequest[];
  /** Default: the CPU. */
  readonly device?: DeviceName | undefined;
}

/** Of everything that is not about threads. */
const usualThreads = 2;

export function makeSubject({ model, checkpoint, train, requests, device = 'cpu' }: SubjectSource): Subject {
  const { precision } = train;
  const owned: Disposable[] = [];
  const keep = <T extends Disposable>(made: T): T => (owned.push(made), made);
  const runtimes = once((threads: number) => keep(new Runtime({ threads, device })));
  const state = keep(new State(model.layout.stores(), runtimes(usualThreads)));
  if (checkpoint) model.load(state, checkpoint.tensors);
  else model.initialise(state, train.seed);
  const plans = once((threads: number) => keep(fullPlan(model, state, runtimes(threads), precision)));
  const rankers = once((threads: number) => keep(new Ranker(model, state, runtimes(threads), { precision })));
  const rowPlan = once(() => {
    const graph = rowsGraph(model, precision, runtimes(usualThreads));
    return { graph, plan: keep(new Plan(lower(graph, model.layout), state, runtimes(usualThreads))) };
  });
  return {
    model, precision, requests, device: runtimes(usualThreads).device,
    async forward(list, threads = usualThreads) {
      const batch = packBatch(model.schema, list, historyForm(model.config));
      const { sizes, arrays } = model.inputs(batch);
      const logits = new Float32Array(batch.candidates * model.schema.tasks.length);
      await plans(threads).run(sizes, arrays, new Map([['logits', logits]]));
      return logits;
    },
    prefill: (list, threads = usualThreads) => rankers(threads).prefill(list),
    score: (prefilled, candidates, threads = usualThreads) => rankers(threads).score(prefilled, candidates),
    async layerRows(list) {
      const { plan, graph } = rowPlan(0);
      const { sizes, arrays } = model.inputs(packBatch(model.schema, list, historyForm(model.config)));
      const layers = plan.outputs.map((v) => new arrayTypes[graph.outputs.get(v.name)!.dtype as CacheEntry['dtype']](plan.elements(v, sizes)));
      await plan.run(sizes, arrays, new Map(plan.outputs.map((v, i) => [v.name, layers[i]!])));
      return { layers: plan.outputs.map((v, i) => [Number(v.name.slice(4)), layers[i]!] as const).sort((a, b) => a[0] - b[0]).map(([, a]) => a), offsets: arrays.get('query.offsets') as Int32Array };
    },
    trainer(threads = usualThreads) {
      const trainer = new Trainer(model, train, runtimes(threads));
      trainer.totalSteps = 1000;
      if (checkpoint?.optimizer) trainer.restore(checkpoint);
      else if (checkpoint) model.load(trainer.state, checkpoint.tensors);
      return trainer;
    },
    [Symbol.dispose]() {
      for (const o of owned.reverse()) o[Symbol.dispose]();
    },
  };
}

function once<T>(make: (key: number) => T): (key: number) => T {
  const made = new Map<number, T>();
  return (key) => {
    if (!made.has(key)) made.set(key, make(key));
    return made.get(key)!;
  };
}

/** The user's side with the rows that each layer gives as outputs `rows<layer>`. */
function rowsGraph(model: ModelDescription, policy: Precision, target: Target) {
  const { graph } = model.full();
  const { selfLayers } = model.config as LongerConfig;
  for (let layer = 0; layer <= selfLayers; ++layer) {
    const last = graph.nodes.findLast((n) => n.name.startsWith(`layer${layer}.`));
    graph.output(`rows${layer}`, last!.outputs[0]!);
  }
  return inferenceGraph(graph, policy, target);
}

/** The first requests of a file, or made ones with long, short and no history and with several, one and no candidates. */
export async function requestsFor(model: ModelDescription, data: string | undefined, count: number): Promise<EncodedRequest[]> {
  if (data === undefined) {
    const most = Math.min(300, model.config.maxHistory);
    const lengths = Array.from({ length: Math.max(1, count) }, (_, i) => [most, 1, Math.ceil(most / 3), 0, Math.ceil(0.7 * most) + 1][i % 5]!);
    return madeRequests(model.schema, lengths.map((n) => Math.min(n, most)), [3, 1, 0, 5]);
  }
  const requests: EncodedRequest[] = [];
  for await (const r of new Dataset(data, model.schema)) {
    requests.push(r);
    if (requests.length >= count) break;
  }
  if (requests.every((r) => r.candidates === 0)) throw new LongerError('ERR_DATA', 'no request has a candidate', { place: data, remedy: 'Logits are compared: give requests with candidates' });
  return requests;
}
