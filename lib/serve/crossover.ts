import { historyForm } from '../model/config.ts';
import type { Ranker } from '../rank/ranker.ts';
import { type EncodedRequest, unknownSide } from '../schema/encode.ts';

/** Candidates of the larger measurement. */
const many = 512;

/**
 * Below how many candidates the plain forward pass of a full history is faster than a prefill and a score (spec 6): with one candidate and with many the median of
 * what it saves is measured, in turns, and between them the saving is a straight line.
 * @param milliseconds that it may take; the runs that have begun are finished, two each at least
 * @returns 0 where plain does not gain with one candidate, Infinity where it gains with many
 */
export async function crossover(ranker: Ranker, milliseconds: number): Promise<number> {
  const from = performance.now();
  await saved(ranker, 1, 0); // the first runs prepare weights and memory
  const few = await saved(ranker, 1, from + milliseconds / 2);
  if (few <= 0) return 0;
  const more = await saved(ranker, many, from + milliseconds);
  return more > 0 ? Infinity : Math.ceil(1 + ((many - 1) * few) / (few - more));
}

/** Milliseconds that the plain pass saves, the median of at most 25 pairs. */
async function saved(ranker: Ranker, candidates: number, until: number): Promise<number> {
  const request = madeRequest(ranker, candidates);
  const pairs: number[] = [];
  do {
    const plain = await took(() => ranker.scoreOnce([request]));
    pairs.push((await took(async () => ranker.score(await ranker.prefill([request])))) - plain);
  } while (performance.now() < until && pairs.length < 25);
  return pairs.sort((a, b) => a - b)[pairs.length >> 1]!;
}

async function took(run: () => Promise<unknown>): Promise<number> {
  const from = performance.now();
  await run();
  return performance.now() - from;
}

/** A full history of which nothing is known. */
function madeRequest({ model: { schema, config } }: Ranker, candidates: number): EncodedRequest {
  const { maxHistory } = historyForm(config);
  const side = (name: 'user' | 'context' | 'event' | 'candidate', rows: number) => unknownSide(schema.sides[name], rows);
  return {
    schema: schema.hash, id: undefined, userKey: '', user: side('user', 1), context: side('context', 1), event: side('event', maxHistory), candidate: side('candidate', candidates),
    events: maxHistory, candidates, labels: new Float32Array(candidates * schema.tasks.length).fill(NaN), historyStart: 0, eventTime: new Float64Array(schema.time ? maxHistory : 0), time: 0,
  };
}
