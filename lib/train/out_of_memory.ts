import { LongerError } from '../errors.ts';
import type { Symbols } from '../graph/dim.ts';
import type { RecomputePolicy } from '../graph/passes/recompute.ts';
import { mebibytes, Plan, type State } from '../native/plan.ts';
import type { Runtime } from '../native/runtime.ts';
import type { GraphSpec } from '../native/types.ts';

/** A step that ran out of memory. */
export interface FailedStep {
  readonly policy: RecomputePolicy;
  readonly sizes: Symbols;
  readonly state: State;
  readonly runtime: Runtime;
  /** The step under another policy. */
  readonly compile: (policy: 'none' | 'selective' | 'block') => GraphSpec;
}

const policies = ['none', 'selective', 'block'] as const; // from the fastest to the one that holds least

/** The same error, with the recompute policy under which the step would fit, or what it lacks under the smallest. By the plan's own peak under each. */
export function withPolicyThatFits(error: LongerError, step: FailedStep): LongerError {
  const { policy, sizes, state, runtime, compile } = step;
  const needed = (p: (typeof policies)[number]): number => {
    using plan = new Plan(compile(p), state, runtime);
    return plan.memory(sizes).arena;
  };
  const others = policies.slice(typeof policy === 'string' ? policies.indexOf(policy) + 1 : 1).map((name) => ({ name, bytes: needed(name) }));
  const told = (remedy: string): LongerError =>
    new LongerError('ERR_MEMORY', error.reason, { ...(error.place === undefined ? {} : { place: error.place }), remedy, cause: error.cause });
  if (runtime.backend === 'cpu') {
    if (others.length === 0) return told('Use smaller batches (maxEvents)');
    return told(`Use smaller batches (maxEvents), or a recompute policy: ${others.map((o) => `"${o.name}" needs ${mebibytes(o.bytes)}`).join(', ')}`);
  }
  const use = runtime.deviceUse();
  const available = use.available + use.scratch; // what an earlier run left is there for the next
  const fits = others.find((o) => o.bytes <= available);
  if (fits) return told(`Use the recompute policy "${fits.name}", which fits: it needs ${mebibytes(fits.bytes)} of ${mebibytes(available)} that are free`);
  const least = others.at(-1);
  return told(`Use smaller batches (maxEvents): ${mebibytes(available)} are free${least ? `, and the recompute policy "${least.name}" needs ${mebibytes(least.bytes)}` : ''}`);
}
