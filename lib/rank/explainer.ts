import { firstKept, packBatch } from '../data/batch.ts';
import { LongerError } from '../errors.ts';
import { elementsOf, type Graph } from '../graph/graph.ts';
import { historyForm, type LongerConfig } from '../model/config.ts';
import { explanationGraph, explanationRefusal } from '../model/explanation.ts';
import type { ModelInputs } from '../model/layout.ts';
import { type ModelDescription, planOf } from '../model/model.ts';
import { Rollout } from '../model/rollout.ts';
import { arrayTypes, widened } from '../native/dtype.ts';
import type { Plan, State } from '../native/plan.ts';
import type { Runtime } from '../native/runtime.ts';
import type { Precision } from '../graph/passes/precision.ts';
import type { EncodedRequest } from '../schema/encode.ts';

/** Which events a candidate's score looked at. */
export interface Explanation {
  /** Places in the history that the request brought, those with most mass first; of equal ones the newest. */
  readonly events: Int32Array;
  /** Of each: its share by attention rollout, or (DIN) its weight, largest magnitude first. */
  readonly mass: Float32Array;
  /** What no event has: with the masses of all events, not only of those given, it is 1. null for DIN, whose weights add up to nothing in particular. */
  readonly rest: number | null;
}

/** Milliseconds of one turn of the event loop. */
const turn = 2;

/** A plan of its own, that runs the whole forward pass and gives what its attention saw: scoring stays as it is. */
export class Explainer implements Disposable {
  readonly #model: ModelDescription;
  readonly #graph: Graph;
  readonly #plan: Plan;

  /** @throws LongerError ERR_CONFIG for a model that has no attention over events */
  constructor(model: ModelDescription, state: State, runtime: Runtime, policy: Precision, denseStore: string) {
    const refusal = explanationRefusal(model.config);
    if (refusal !== null) throw new LongerError('ERR_CONFIG', `the scores cannot be explained by events: ${refusal}`, { place: 'explain' });
    this.#model = model;
    this.#graph = explanationGraph(model, policy, runtime);
    this.#plan = planOf(model, this.#graph, state, runtime, denseStore);
  }

  /**
   * @param top events of each candidate
   * @returns an explanation for each candidate that the request brings, and its logits: the bits that scoring gives
   */
  async explain(request: EncodedRequest, top: number, signal?: AbortSignal): Promise<{ readonly explanations: Explanation[]; readonly logits: Float32Array }> {
    if (!Number.isSafeInteger(top) || top < 1) throw new LongerError('ERR_DATA', `expected a whole number of events of at least 1, got ${String(top)}`, { place: 'explain' });
    const { schema, config } = this.#model;
    const batch = packBatch(schema, [request], historyForm(config));
    const inputs = this.#model.inputs(batch);
    const arrays = new Map([...this.#graph.outputs].map(([name, v]) => [name, new arrayTypes[v.dtype](elementsOf(v, inputs.sizes))]));
    await this.#plan.run(inputs.sizes, inputs.arrays, arrays, { signal });
    const first = firstKept(schema, historyForm(config), request) - request.historyStart;
    const seen = (name: string): Float32Array => widened(arrays.get(name)!, this.#graph.outputs.get(name)!.dtype);
    const massOf = config.kind === 'longer' ? rolledOut(config, inputs, seen, batch.events) : weights(seen('weights'), batch.events);
    const explanations: Explanation[] = [];
    let until = performance.now() + turn;
    for (let c = 0; c < request.candidates; ++c) {
      const { mass, rest } = massOf(c);
      explanations.push({ ...largest(mass, first, top), rest });
      if (performance.now() < until) continue;
      await new Promise((resolve) => setImmediate(resolve));
      signal?.throwIfAborted();
      until = performance.now() + turn;
    }
    return { explanations, logits: arrays.get('logits') as Float32Array };
  }

  [Symbol.dispose](): void {
    this.#plan.dispose();
  }
}

type MassOf = (candidate: number) => { readonly mass: Float64Array; readonly rest: number | null };

/** A merged token's mass, in equal parts for the events of its group. */
function rolledOut(config: LongerConfig, inputs: ModelInputs, seen: (name: string) => Float32Array, events: number): MassOf {
  const rollout = new Rollout(config, inputs, seen);
  const { merge, alignment } = config;
  const short = alignment === 'oldest' ? 0 : (merge - (events % merge)) % merge; // places that the oldest group lacks
  return (candidate) => {
    const { groups, rest } = rollout.of(candidate);
    const size = (g: number): number => Math.min(events, (g + 1) * merge - short) - Math.max(0, g * merge - short);
    return { mass: Float64Array.from({ length: events }, (_, e) => groups[Math.floor((e + short) / merge)]! / size(Math.floor((e + short) / merge))), rest };
  };
}

const weights = (all: Float32Array, events: number): MassOf => (candidate) => ({ mass: Float64Array.from(all.subarray(candidate * events, (candidate + 1) * events)), rest: null });

function largest(mass: Float64Array, first: number, top: number): { events: Int32Array; mass: Float32Array } {
  const order = Array.from(mass, (_, e) => e).sort((a, b) => Math.abs(mass[b]!) - Math.abs(mass[a]!) || b - a).slice(0, top);
  return { events: Int32Array.from(order, (e) => first + e), mass: Float32Array.from(order, (e) => mass[e]!) };
}
