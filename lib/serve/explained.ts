import { LongerError } from '../errors.ts';
import { explanationRefusal } from '../model/explanation.ts';
import type { Explanation } from '../rank/explainer.ts';
import type { Ranker } from '../rank/ranker.ts';
import type { EncodedRequest } from '../schema/encode.ts';
import { show } from '../schema/fail.ts';
import { pickCandidates } from './slices.ts';

/** Which candidates are explained once all have their scores, and by how many events. */
export interface WantedExplanations {
  readonly events: number;
  readonly candidates: (logits: Float32Array) => Int32Array;
}

/** @throws LongerError ERR_DATA, `explain`: for what is no number of events, a model that weighs no events, more candidates than may be explained */
export function checkExplain({ model }: Ranker, events: unknown, candidates: number, most: number): void {
  const place = 'explain';
  if (typeof events !== 'number' || !Number.isSafeInteger(events) || events < 1) throw new LongerError('ERR_DATA', `expected a whole number of events of at least 1, got ${show(events)}`, { place });
  const refusal = explanationRefusal(model.config);
  if (refusal !== null) throw new LongerError('ERR_DATA', `the scores cannot be explained by events: ${refusal}`, { place });
  if (candidates > most) throw new LongerError('ERR_DATA', `${candidates} candidates are more than the ${most} that are explained`, { place, remedy: 'Ask for the best alone (topK)' });
}

/** @param logits of the whole request */
export async function explained(ranker: Ranker, request: EncodedRequest, { events, candidates }: WantedExplanations, logits: Float32Array): Promise<readonly Explanation[] | undefined> {
  const [list] = await ranker.explain([{ ...request, ...pickCandidates(request, candidates(logits)) }], events);
  return list;
}
