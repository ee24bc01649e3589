import t from 'tap';
import { PagedRanker } from '../lib/rank/paged_ranker.ts';
import { Pace } from '../lib/serve/pace.ts';
import type { Call } from '../lib/serve/call.ts';
import { type Request, request, saved, service } from './serve_helpers.ts';

// eslint-disable-next-line @typescript-eslint/unbound-method -- called with its own `this` below
const { score, warm } = PagedRanker.prototype;
const sleep = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));

await t.test('calls with a cache pass those whose history must be read, which come in order', async (t) => {
  const ranks = await service(t, await saved(t), { events: 12 });
  const known = request(1);
  await ranks.rank(known);
  await sleep(1); // the turn that served it is over
  const order: string[] = [];
  const ask = (name: string, r: Request): Promise<unknown> => ranks.rank(r).then(({ cache }) => order.push(`${name} ${cache}`));
  await Promise.all([ask('a', request(2)), ask('b', request(3)), ask('c', request(4)), ask('d', known), ask('e', known)]);
  t.same(order, ['d hit', 'e hit', 'a miss', 'b miss', 'c miss']);
  t.equal(ranks.stats().prefills, 4);
});

await t.test('calls with a cache that never cease do not keep one waiting whose history must be read', async (t) => {
  const ranks = await service(t, await saved(t), { rows: 5 });
  const known = request(1);
  await ranks.rank(known);
  let [open, passed] = [true, 0];
  const others = Array.from({ length: 4 }, async () => {
    for (; open; ++passed) await ranks.rank(known);
  });
  while (ranks.stats().waitingCalls < 4) await new Promise((resolve) => setImmediate(resolve));
  const before = passed;
  t.equal((await ranks.rank(request(2))).cache, 'miss');
  t.ok(passed - before <= 8, `${passed - before} passed: a turn of its prefill, and those in front of it`);
  open = false;
  await Promise.all(others);
});

await t.test('where time gets short, calls whose history must be read are refused before those with a cache', async (t) => {
  const ranks = await service(t, await saved(t));
  t.intercept(PagedRanker.prototype, 'score', {
    value: async function (this: PagedRanker, ...call: Parameters<PagedRanker['score']>) {
      await sleep(200);
      return score.apply(this, call);
    },
  });
  for (const seed of [1, 2, 1]) await ranks.rank(request(seed));
  const first = ranks.rank(request(1));
  while (ranks.stats().waitingCalls === 0) await new Promise((resolve) => setImmediate(resolve));
  const before = ranks.stats();
  await t.rejects(ranks.rank(request(3), { timeout: 480 }), { code: 'ERR_OVERLOADED' });
  t.equal((await ranks.rank(request(2), { timeout: 480 })).cache, 'hit');
  await first;
  t.match(ranks.stats(), { refused: before.refused + 1, waitingCalls: 0, waitingRows: 0 });
});

await t.test('the pace is learned apart for candidates and histories, and one long wait is not taken for the work', (t) => {
  const call = (candidates: number, events: number, cached: boolean): Call => ({ request: { candidates, events }, done: 0, cache: cached ? {} : undefined }) as unknown as Call;
  const pace = new Pace();
  t.equal(pace.of([call(100, 2000, false)]), 0, 'nothing is known yet');
  for (let i = 0; i < 50; ++i) {
    pace.scored(100, 3);
    pace.read([call(100, 2000, false)], 8);
  }
  const near = (calls: readonly Call[], wanted: number): void => { t.ok(Math.abs(pace.of(calls) - wanted) < 1e-9 * wanted); };
  near([call(100, 2000, true)], 3);
  near([call(100, 2000, false)], 11);
  near([call(100, 2000, true), { ...call(100, 2000, true), done: 50 }], 4.5);
  pace.scored(100, 1000);
  t.ok(pace.of([call(100, 0, true)]) < 4, 'counted as four times what was expected');
  for (let i = 0; i < 50; ++i) pace.scored(100, 30);
  t.ok(pace.of([call(100, 0, true)]) > 29, 'what lasts is learned');
  pace.read([call(1, 0, false)], 8);
  t.ok(Number.isFinite(pace.of([call(0, 0, false)])), 'an empty history');
  t.end();
});

await t.test('a warm-up gives way to calls', async (t) => {
  const directory = await saved(t);
  const ranks = await service(t, directory);
  for (let seed = 1; seed <= 5; ++seed) await ranks.rank(request(seed));
  const hasty: number[] = [];
  let [warmed, over] = [0, -Infinity];
  t.intercept(PagedRanker.prototype, 'warm', {
    value: async function (this: PagedRanker, ...given: Parameters<PagedRanker['warm']>) {
      const rest = performance.now() - over;
      if (ranks.stats().waitingCalls > 0 && rest < 45) hasty.push(rest);
      const pages = await warm.apply(this, given);
      over = performance.now();
      ++warmed;
      return pages;
    },
  });
  let open = true;
  const others = (async () => {
    for (; open; await sleep(1)) await ranks.rank(request(1));
  })();
  await ranks.load(directory);
  open = false;
  await others;
  t.ok(warmed >= 5);
  t.same(hasty, [], 'while a call waits no history is read, or after 50 ms');
});
