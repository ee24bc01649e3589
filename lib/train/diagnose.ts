import type { Batch } from '../data/batch.ts';
import { LongerError } from '../errors.ts';
import type { ModelDescription } from '../model/model.ts';
import type { State } from '../native/plan.ts';
import { sides } from '../schema/schema.ts';

/** Standardised numbers are about 1; past this one is worth a word. */
const suspicious = 1e4;

/**
 * The error of a step that gave a NaN or Inf: names the step, the first operation that wrote one, and where it came in (a
 * numeric feature or time of a request, a parameter) as far as that can be seen.
 */
export function numericError(model: ModelDescription, state: State, batches: readonly Batch[], step: number, what: string, operation: string | undefined): LongerError {
  const source = badInput(model, batches) ?? badParameter(model, state) ?? largestInput(model, batches);
  return new LongerError('ERR_NUMERIC', `step ${step} gave a ${what} that is not finite${source === undefined ? '' : `; ${source}`}`, {
    ...(operation === undefined ? {} : { place: operation }),
    remedy: 'Nothing was updated. Correct or leave out that request, lower the learning rate, or clip gradients',
  });
}

interface Found {
  readonly feature: string;
  readonly value: number;
  readonly request: string;
}

/** Every number that came with the batches, feature by feature. */
function* numbers(model: ModelDescription, batches: readonly Batch[]): Generator<Found> {
  for (const batch of batches) {
    const named = (r: number): string => batch.encoded[r]?.id ?? `number ${r} of the batch`;
    const owner = (offsets: ArrayLike<number>, row: number): number => {
      let r = 0;
      while (offsets[r + 1]! <= row) ++r;
      return r;
    };
    const events = batch.columns.get('event.offsets')!;
    const candidates = batch.columns.get('candidate.offsets')!;
    for (const side of sides) {
      const { numeric } = model.schema.sides[side];
      const column = batch.columns.get(`${side}.numeric`);
      if (column)
        for (let i = 0; i < column.length; ++i) {
          const row = Math.floor(i / numeric.length);
          const r = side === 'event' ? owner(events, row) : side === 'candidate' ? owner(candidates, row) : row;
          yield { feature: `${side}.${numeric[i % numeric.length]!.name}`, value: column[i]!, request: named(r) };
        }
    }
    for (const [i, value] of (batch.columns.get('request.time') ?? []).entries()) yield { feature: 'time', value, request: named(i) };
    for (const [i, value] of (batch.columns.get('event.time') ?? []).entries()) yield { feature: 'event.time', value, request: named(owner(events, i)) };
  }
}

function badInput(model: ModelDescription, batches: readonly Batch[]): string | undefined {
  for (const { feature, value, request } of numbers(model, batches)) if (!Number.isFinite(value)) return `the feature ${feature} is ${value} in request ${request}`;
  return undefined;
}

function badParameter(model: ModelDescription, state: State): string | undefined {
  for (const [name, { data }] of model.parameters(state)) {
    const at = data.findIndex((x) => !Number.isFinite(x));
    if (at >= 0) return `the parameter ${name} holds ${data[at]}`;
  }
  return undefined;
}

function largestInput(model: ModelDescription, batches: readonly Batch[]): string | undefined {
  let worst: Found | undefined;
  for (const found of numbers(model, batches))
    if (!found.feature.endsWith('time') && Math.abs(found.value) > Math.max(suspicious, Math.abs(worst?.value ?? 0))) worst = found;
  return worst && `the feature ${worst.feature} is ${worst.value.toPrecision(3)} (standardised) in request ${worst.request}`;
}
