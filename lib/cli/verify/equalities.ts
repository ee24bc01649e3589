import { firstKept } from '../../data/batch.ts';
import { historyForm } from '../../model/config.ts';
import type { EncodedRequest } from '../../schema/encode.ts';
import { differing, Equality, type Prover } from './proof.ts';
import { changeCandidates, changeEvents, longest, withCandidates, withLength } from './requests.ts';
import type { Subject } from './subject.ts';

/** The logits of each request, cut out of those of all. */
function byRequest(s: Subject, requests: readonly EncodedRequest[], logits: Float32Array): Float32Array[] {
  const tasks = s.model.schema.tasks.length;
  let at = 0;
  return requests.map((r) => logits.subarray(at, (at += r.candidates * tasks)));
}

/** A candidate's logits are the same alone, among the others, and among others that were changed. */
export const candidateIsolation: Prover = async (s) => {
  const { schema } = s.model;
  const tasks = schema.tasks.length;
  const whole = byRequest(s, s.requests, await s.forward(s.requests));
  const equal = new Equality();
  let own = 0;
  let changes = 0;
  for (const [r, request] of s.requests.entries()) {
    const all = Array.from({ length: request.candidates }, (_, c) => c);
    if (all.length === 0) continue;
    const of = (c: number, logits: Float32Array): Float32Array => logits.subarray(c * tasks, (c + 1) * tasks);
    const each = all.map((c) => withCandidates(schema, request, [c]));
    const others = all.map((c) => changeCandidates(schema, request, (i) => i !== c));
    const backwards = await s.forward([withCandidates(schema, request, [...all].reverse())]);
    const alone = byRequest(s, each, await s.forward(each));
    const among = byRequest(s, others, await s.forward(others));
    for (const c of all) {
      const wanted = of(c, whole[r]!);
      equal.add(wanted, alone[c]!).add(wanted, of(c, among[c]!)).add(wanted, of(all.length - 1 - c, backwards));
    }
    // The comparison sees what it ought to: a changed candidate has other logits.
    const changed = await s.forward([changeCandidates(schema, request, () => true)]);
    for (const c of all) if (differing(of(c, whole[r]!), of(c, changed)) > 0) ++own;
    changes += all.length;
  }
  return {
    mechanism: 'candidate isolation', claim: "no candidate changes another's logits: alone, reordered, others changed",
    measured: `${String(equal)}; ${own} of ${changes} changed candidates have other logits`, pass: equal.holds && 2 * own >= changes,
  };
};

/** Full forward pass = prefill and score, as often as wanted and whatever was scored in between. */
export const cacheEquality: Prover = async (s) => {
  const { schema } = s.model;
  const full = await s.forward(s.requests);
  const prefilled = await s.prefill(s.requests);
  const equal = new Equality().add(full, await s.score(prefilled));
  const others = s.requests.map((r) => changeCandidates(schema, r, () => true));
  equal.add(await s.forward(others), await s.score(prefilled, others)).add(full, await s.score(prefilled));
  const without = await s.prefill(s.requests.map((r) => withCandidates(schema, r, [])));
  for (const [name, array] of prefilled.arrays) equal.add(array.read(), without.arrays.get(name)!.read());
  return { mechanism: 'cache equality', claim: 'full forward = prefill + score, repeatedly; candidates leave the cache as it is', measured: String(equal), pass: equal.holds };
};

/** Neither other requests nor events that are too old are computed with. */
export const paddingInvariance: Prover = async (s) => {
  const { schema, config } = s.model;
  const full = byRequest(s, s.requests, await s.forward(s.requests));
  const equal = new Equality();
  for (const [i, r] of s.requests.entries()) equal.add(full[i]!, await s.forward([r]));
  const backwards = [...s.requests].reverse();
  const reversed = byRequest(s, backwards, await s.forward(backwards)).reverse();
  full.forEach((logits, i) => equal.add(logits, reversed[i]!));
  // Longer than what the model keeps: the older events may be any, or not be there at all.
  const source = longest(s.requests.filter((r) => r.candidates > 0));
  if (source.events > 0) {
    const longer = withLength(schema, source, config.maxHistory + 7);
    const first = firstKept(schema, historyForm(config), longer);
    // A gap to the event before needs that event's time.
    const historyStart = config.kind === 'longer' && config.timeGap.to === 'previous' ? first - 1 : first;
    const kept = { ...withLength(schema, source, longer.events - historyStart), historyStart };
    const wanted = await s.forward([kept]);
    for (const r of [longer, changeEvents(schema, longer, (e) => e < first, 3)]) {
      equal.add(wanted, await s.forward([r])).add(wanted, await s.score(await s.prefill([r])));
    }
  }
  return { mechanism: 'padding invariance', claim: 'events past maxHistory and other requests in the batch change no bit', measured: String(equal), pass: equal.holds };
};

/** Of the CPU; a device has no threads of ours. */
export const threadInvariance: Prover = async (s) => {
  if (s.device !== 'cpu') return null;
  const counts = [1, 2, 5];
  const wanted = await s.forward(s.requests, counts[0]);
  const cache = await s.prefill(s.requests, counts[0]);
  const equal = new Equality();
  for (const n of counts.slice(1)) {
    equal.add(wanted, await s.forward(s.requests, n));
    const other = await s.prefill(s.requests, n);
    for (const [name, array] of cache.arrays) equal.add(array.read(), other.arrays.get(name)!.read());
    equal.add(wanted, await s.score(other, undefined, n));
  }
  return { mechanism: 'thread invariance', claim: `${counts.join(', ')} threads: logits, cache and cached logits have the same bits`, measured: String(equal), pass: equal.holds };
};

/** The same again, after other work has left its numbers in the arena. */
export const determinism: Prover = async (s) => {
  const { schema } = s.model;
  const first = await s.forward(s.requests);
  const equal = new Equality();
  for (let i = 1; i <= 3; ++i) {
    await s.forward(s.requests.map((r) => changeEvents(schema, r, () => true, i)).reverse());
    equal.add(first, await s.forward(s.requests)).add(first, await s.score(await s.prefill(s.requests)));
  }
  return { mechanism: 'determinism', claim: 'the same requests give the same bits, whatever ran before', measured: String(equal), pass: equal.holds };
};
