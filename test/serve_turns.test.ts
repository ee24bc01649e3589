import t from 'tap';
import { PagedRanker } from '../lib/rank/paged_ranker.ts';
import { Pace } from '../lib/serve/pace.ts';
import { readingShare } from '../lib/serve/admission.ts';
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

await t.test('where time gets short, calls whose history must be read are refused before those with a cache, some owners before others', async (t) => {
  const ranks = await service(t, await saved(t), { rows: 5 }); // a batch is one call
  t.intercept(PagedRanker.prototype, 'score', {
    value: async function (this: PagedRanker, ...call: Parameters<PagedRanker['score']>) {
      await sleep(200);
      return score.apply(this, call);
    },
  });
  // Shares of the time that 400 ms of waiting leave to those who are late in the line, now and in the next minute, and to those who are early.
  const owner = (fits: (share: number) => boolean): string => Array.from({ length: 1000 }, (_, i) => `owner ${i}`).find((o) => [0, 60_000].every((later) => fits(readingShare(o, performance.now() + later, Infinity))))!;
  const of = (seed: number, user_id: string): Request => ({ ...request(seed), user: { ...request(seed).user!, user_id } });
  for (const seed of [1, 2, 1]) await ranks.rank(request(seed));
  const low = of(3, owner((share) => share < 0.3));
  const before = ranks.stats();
  let open = true;
  const stream = async (): Promise<void> => {
    while (open) await ranks.rank(request(1));
  };
  /** A call that finds two others, which take 200 ms each one after the other. */
  const third = async (asked: Request) => {
    do await new Promise((resolve) => setImmediate(resolve)); while (ranks.stats().waitingCalls !== 2);
    return ranks.rank(asked, { timeout: 1100 });
  };
  const others = [stream(), sleep(100).then(stream)];
  t.equal((await third(low)).cache, 'miss', 'a burst is borne');
  await sleep(1200);
  await t.rejects(third({ ...low, time: low.time + 1 }), { code: 'ERR_OVERLOADED' });
  t.equal((await third(request(2))).cache, 'hit');
  await sleep(500);
  t.equal((await third(of(4, owner((share) => share > 0.45)))).cache, 'miss');
  open = false;
  await Promise.all(others);
  t.match(ranks.stats(), { refused: before.refused + 1, waitingCalls: 0, waitingRows: 0 });
});

await t.test('the share of an owner stays for a minute, lies between a quarter and a half and is drawn evenly', (t) => {
  const shares = Array.from({ length: 4000 }, (_, i) => readingShare(`u${i}`, 90_000, 1000));
  t.same(shares.map((_, i) => readingShare(`u${i}`, 119_999, 1000)), shares);
  const eighths = new Array<number>(8).fill(0);
  for (const share of shares) eighths[Math.floor((share - 1 / 4) * 32)]!++;
  t.ok(eighths.every((n) => n > 400 && n < 600), eighths.join(' '));
  const next = shares.map((_, i) => readingShare(`u${i}`, 120_000, 1000));
  const agree = shares.filter((share, i) => share > 3 / 8 === next[i]! > 3 / 8).length;
  t.ok(agree > 1800 && agree < 2200, `${agree} of 4000 are on the same side a minute later`);
  t.ok(shares.every((_, i) => readingShare(`u${i}`, 90_000, 999) === 1 / 2), 'in a burst all have what a call with a cache has');
  t.end();
});

await t.test('a batch cuts nobody short for want of room: the rest would wait another round', async (t) => {
  const ranks = await service(t, await saved(t), { rows: 12, slice: 5 });
  for (let seed = 1; seed <= 4; ++seed) await ranks.rank(request(seed));
  await sleep(1);
  const order: number[] = [];
  const before = ranks.stats().batches;
  await Promise.all([1, 2, 3, 4].map((seed) => ranks.rank(request(seed)).then(() => order.push(seed))));
  t.same(order, [1, 2, 3, 4]);
  t.equal(ranks.stats().batches - before, 2, 'two calls of five candidates each');
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
