import fc from 'fast-check';
import t from 'tap';
import { PagedRanker } from '../lib/rank/paged_ranker.ts';
import { ranked } from '../lib/serve/ranking.ts';
import { models } from './helpers.ts';
import { alone, request, saved, service, unordered } from './serve_helpers.ts';

await t.test('in a crowd, in slices and from the cache: the bits of the Ranker alone, for every model', async (t) => {
  for (const [name, config] of Object.entries(models)) {
    const directory = await saved(t, 1, config);
    const ranks = await service(t, directory, { slice: 2, rows: 5, events: 30 });
    const all = [request(1, 0, 3), request(2, 24, 9), request(3, 5, 1), request(4, 40, 4), request(5, 1, 0)];
    const wanted = await Promise.all(all.map((r) => alone(directory, r)));
    for (const cache of ['miss', 'hit']) {
      const results = await Promise.all(all.map((r) => ranks.rank(r)));
      results.forEach((result, i) => {
        if (result.cache !== cache) t.fail(`${name}: ${cache} expected`);
        for (const task of ['click', 'buy']) t.same(unordered(result, task), wanted[i]![task], `${name}: request ${i}, ${task}, ${cache}`);
        const first = [...result.logits['click']!];
        t.same(first, [...first].sort((a, b) => b - a), 'best first');
      });
    }
    await ranks.close();
  }
});

await t.test('deadline, abort and a full queue', async (t) => {
  const ranks = await service(t, await saved(t), { maxCalls: 2, window: 200_000 });
  const before = ranks.stats().rows;
  await t.rejects(ranks.rank(request(1), { timeout: 1 }), { code: 'ERR_DEADLINE' });
  const stop = new AbortController();
  const aborted = ranks.rank(request(1), { signal: stop.signal });
  setImmediate(() => { stop.abort(new Error('gone')); });
  await t.rejects(aborted, /gone/);
  t.equal(ranks.stats().rows, before, 'neither was run');
  t.match(ranks.stats(), { waitingCalls: 0, waitingRows: 0, late: 1, aborted: 1 });
  const all = await Promise.allSettled([1, 2, 3, 4].map((s) => ranks.rank(request(s))));
  t.same(all.map((r) => r.status), ['fulfilled', 'fulfilled', 'rejected', 'rejected']);
  t.match((all[3] as PromiseRejectedResult).reason, { code: 'ERR_OVERLOADED' });
  await ranks.rank(request(5));
  t.equal(ranks.stats().refused, 2);
});

// eslint-disable-next-line @typescript-eslint/unbound-method -- called with its own `this` below
const { score } = PagedRanker.prototype;

await t.test('a call that would wait for more than half of its time is refused at once', async (t) => {
  t.intercept(PagedRanker.prototype, 'score', {
    value: async function (this: PagedRanker, ...call: Parameters<PagedRanker['score']>) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      return score.apply(this, call);
    },
  });
  const ranks = await service(t, await saved(t));
  await ranks.rank(request(1));
  const first = ranks.rank(request(1));
  while (ranks.stats().waitingCalls === 0) await new Promise((resolve) => setImmediate(resolve));
  await t.rejects(ranks.rank(request(2), { timeout: 150 }), { code: 'ERR_OVERLOADED' }, 'five candidates take at least 100 ms');
  t.equal((await ranks.rank(request(2))).index.length, 5, 'a patient one waits');
  t.equal((await first).index.length, 5);
});

await t.test('a small call passes a large one', async (t) => {
  const ranks = await service(t, await saved(t), { slice: 4, rows: 8 });
  const order: string[] = [];
  await Promise.all([
    ranks.rank(request(1, 12, 400)).then(() => order.push('large')),
    ranks.rank(request(2, 12, 3)).then(() => order.push('small')),
    ranks.rank(request(3, 12, 4)).then(() => order.push('small')),
  ]);
  t.same(order, ['small', 'small', 'large']);
});

await t.test('what is wrong is named', async (t) => {
  const ranks = await service(t, await saved(t), { maxCandidates: 5, maxEvents: 12 });
  const good = request(1);
  await t.rejects(ranks.rank(request(1, 12, 6)), { code: 'ERR_DATA', place: 'candidates' });
  await t.rejects(ranks.rank(request(1, 13, 1)), { code: 'ERR_DATA', place: 'history' });
  await t.rejects(ranks.rank({ ...good, tasks: ['like' as never] }), { code: 'ERR_DATA', place: 'tasks' });
  await t.rejects(ranks.rank({ ...good, topK: 0 }), { code: 'ERR_DATA', place: 'topK' });
  await t.rejects(ranks.rank({ ...good, user: { ...good.user, age: NaN } }), { code: 'ERR_DATA', place: 'request: user.age' });
  await t.rejects(ranks.rank({ ...good, candidates: [{ item: 51, price: 1 }] }), { code: 'ERR_DATA', place: 'request: candidates[0].item' });
  await t.rejects(ranks.rank({ ...good, history: undefined } as never), { code: 'ERR_DATA', place: 'history' });
  const top = await ranks.rank({ ...good, tasks: ['buy'], topK: 2 });
  t.same([top.index.length, Object.keys(top.logits)], [2, ['buy']]);
  t.match(ranks.stats(), { waitingCalls: 0, waitingRows: 0 });
});

await t.test('any logits are ordered best first, equal ones as they came', (t) => {
  const logit = fc.oneof(fc.float({ noNaN: true, noDefaultInfinity: true }), fc.constantFrom(0, -0, 1, -1, 3.4028234663852886e38, 1.401298464324817e-45));
  fc.assert(fc.property(fc.array(logit, { maxLength: 40 }), (list) => {
    const logits = Float32Array.from(list);
    const wanted = list.map((_, i) => i).sort((a, b) => logits[b]! - logits[a]! || a - b);
    const { index } = ranked(logits, 1, [['click', 0]]);
    return index.length === wanted.length && wanted.every((place, i) => index[i] === place);
  }), { seed: 4, numRuns: 500 });
  t.end();
});

await t.test('a closed service finishes what it has and takes no more', async (t) => {
  const ranks = await service(t, await saved(t), { slice: 2, rows: 4 });
  const inFlight = [ranks.rank(request(1, 12, 20)), ranks.rank(request(2))];
  await ranks.close();
  t.equal((await Promise.all(inFlight)).length, 2);
  await t.rejects(ranks.rank(request(1)), { code: 'ERR_DISPOSED' });
});
