import { packBatch } from '../data/batch.ts';
import { sizeOf } from '../graph/dim.ts';
import type { Precision } from '../graph/passes/precision.ts';
import { DeviceMemory } from '../native/device_array.ts';
import type { Plan, RunArray, State } from '../native/plan.ts';
import { Runtime } from '../native/runtime.ts';
import type { EncodedRequest } from '../schema/encode.ts';
import { historyForm } from './config.ts';
import { fullPlan, type ModelDescription, planOf } from './model.ts';

/** One equality that ought to hold to the last bit. */
export interface ParityCheck {
  readonly name: 'full = prefill + score' | 'request alone = in a batch' | 'candidate alone = among others' | 'one thread = several';
  /** Logits compared, and how many of them have other bits. */
  readonly numbers: number;
  readonly different: number;
  readonly largestDifference: number;
}

export interface ParityReport {
  /** Every check compared something, and all bits were the same. */
  readonly equal: boolean;
  readonly checks: readonly ParityCheck[];
}

/**
 * Scores requests by the full forward pass and in every other way that must give the same bits: from the cache, alone, with
 * other numbers of threads. Costs a forward pass for every request and every candidate.
 * @param denseStore where the dense parameters are read
 */
export async function checkParity(
  model: ModelDescription, state: State, runtime: Runtime, requests: readonly EncodedRequest[], precision: Precision, denseStore = 'dense',
): Promise<ParityReport> {
  const { schema, config } = model;
  const tasks = schema.tasks.length;
  using whole = fullPlan(model, state, runtime, precision, denseStore);
  const logits = async (plan: Plan, list: readonly EncodedRequest[]): Promise<Float32Array> => {
    const batch = packBatch(schema, list, historyForm(config));
    const { sizes, arrays } = model.inputs(batch);
    const out = new Float32Array(batch.candidates * tasks);
    await plan.run(sizes, arrays, new Map([['logits', out]]));
    return out;
  };
  const full = await logits(whole, requests);
  const alone: number[] = [];
  const single: number[] = [];
  for (const r of requests) {
    alone.push(...(await logits(whole, [r])));
    for (let c = 0; c < r.candidates; ++c) single.push(...(await logits(whole, [onlyCandidate(model, r, c)])));
  }
  const threads: number[] = [];
  const others = [1, 3].filter((n) => n !== runtime.threads);
  for (const n of others) {
    using other = new Runtime({ threads: n, device: runtime.device });
    using plan = fullPlan(model, state, other, precision, denseStore);
    threads.push(...(await logits(plan, requests)));
  }
  const checks = [
    compare('full = prefill + score', full, await cachedLogits(model, state, runtime, requests, precision, denseStore)),
    compare('request alone = in a batch', full, alone),
    compare('candidate alone = among others', full, single),
    compare('one thread = several', others.flatMap(() => [...full]), threads),
  ];
  return { equal: checks.every((c) => c.different === 0 && c.numbers > 0), checks };
}

async function cachedLogits(model: ModelDescription, state: State, runtime: Runtime, requests: readonly EncodedRequest[], precision: Precision, denseStore: string): Promise<Float32Array> {
  const [prefillGraph, scoreGraph] = [model.prefill(precision, runtime), model.score(precision)];
  using prefill = planOf(model, prefillGraph, state, runtime, denseStore);
  using score = planOf(model, scoreGraph, state, runtime, denseStore);
  const batch = packBatch(model.schema, requests, historyForm(model.config));
  const { sizes, arrays } = model.inputs(batch);
  const { memory, arrays: cache } = DeviceMemory.arrays(runtime, new Map(model.cacheIn(precision).map((e) => [`cache.${e.name}`, { dtype: e.dtype, length: sizeOf(e.rows, sizes) * e.width }])));
  try {
    await prefill.run(sizes, arrays, cache);
    const out = new Float32Array(batch.candidates * model.schema.tasks.length);
    await score.run(sizes, new Map<string, RunArray>([...arrays, ...cache]), new Map([['logits', out]]));
    return out;
  } finally {
    memory.dispose();
  }
}

function compare(name: ParityCheck['name'], a: ArrayLike<number>, b: ArrayLike<number>): ParityCheck {
  let different = Math.abs(a.length - b.length);
  let largestDifference = different > 0 ? Infinity : 0;
  for (let i = 0; i < Math.min(a.length, b.length); ++i) {
    if (Object.is(a[i], b[i])) continue;
    ++different;
    largestDifference = Math.max(largestDifference, Number.isNaN(a[i]! - b[i]!) ? Infinity : Math.abs(a[i]! - b[i]!));
  }
  return { name, numbers: a.length, different, largestDifference };
}

/** The request with one of its candidates alone. */
export function onlyCandidate(model: ModelDescription, r: EncodedRequest, c: number): EncodedRequest {
  const { numericCount } = model.schema.sides.candidate;
  const tasks = model.schema.tasks.length;
  const ids = new Map<string, Int32Array>();
  const offsets = new Map<string, Int32Array>();
  for (const [name, all] of r.candidate.ids) {
    const o = r.candidate.offsets.get(name);
    ids.set(name, o ? all.slice(o[c]!, o[c + 1]!) : all.slice(c, c + 1));
    if (o) offsets.set(name, Int32Array.of(0, o[c + 1]! - o[c]!));
  }
  return {
    ...r,
    candidates: 1,
    candidate: { ids, offsets, numeric: r.candidate.numeric.slice(c * numericCount, (c + 1) * numericCount) },
    labels: r.labels.slice(c * tasks, (c + 1) * tasks),
  };
}
