import t from 'tap';
import { actions, bestAuc, makeWorld, worldDefaults, type WorldSample } from '../lib/data/world.ts';
import { Random } from '../lib/data/random.ts';
import { areaUnderCurve, sortedOrder } from '../lib/train/metrics.ts';

const options = { ...worldDefaults, requests: 1500 };
const world = [...makeWorld(options)];
const day = 86_400;
const logit = (p: number): number => Math.log(p / (1 - p));

interface Columns { readonly item: Int32Array; readonly category: Int32Array; readonly action: Int32Array; readonly time: Float64Array }
const historyOf = (s: WorldSample): Columns => s.request.history as unknown as Columns;
const candidatesOf = (s: WorldSample): Pick<Columns, 'item' | 'category'> => s.request.candidates as unknown as Columns;

/** The documented formula once more, from what a model can see, with parts that can be left out. */
interface Parts { readonly long: boolean; readonly short: boolean; readonly pair: boolean; readonly decay: boolean; readonly newest: number }
const whole: Parts = { long: true, short: true, pair: true, decay: true, newest: Infinity };

function interest(s: WorldSample, category: number, parts: Parts): number {
  const { category: seen, action, time } = historyOf(s);
  const share = (halfLife: number, counts: (i: number) => boolean): number => {
    let [mine, all] = [0, 0];
    for (let i = Math.max(0, seen.length - parts.newest); i < seen.length; ++i) {
      if (!counts(i)) continue;
      const w = parts.decay ? 0.5 ** ((s.request.time! as number - time[i]!) / (halfLife * day)) : 1;
      all += w;
      if (seen[i] === category) mine += w;
    }
    return (all > 0 ? mine / all : 0) - 1 / options.categories;
  };
  const afterSearch = (i: number): boolean => i > 0 && actions[action[i - 1]!] === 'search';
  return (parts.long ? 7 * share(120, () => true) : 0) + (parts.short ? 2.5 * share(1, () => true) : 0) + (parts.pair ? 3.5 * share(60, afterSearch) : 0);
}

/** bias + popularity of every item that was a candidate, from the first request that shows it. */
const itemPart = new Map<number, number>();
for (const s of world)
  candidatesOf(s).item.forEach((item, c) => {
    if (!itemPart.has(item)) itemPart.set(item, logit(s.probabilities[c]!) - interest(s, candidatesOf(s).category[c]!, whole));
  });

const labels = Uint8Array.from(world.flatMap((s) => Array.from(s.request.labels!.click as Int32Array)));
const auc = (scores: Float32Array, y = labels): number => areaUnderCurve(scores, y, sortedOrder(scores));
const scoresOf = (parts: Parts, items = true): Float32Array =>
  Float32Array.from(world.flatMap((s) => Array.from(candidatesOf(s).category, (k, c) => (items ? itemPart.get(candidatesOf(s).item[c]!)! : 0) + interest(s, k, parts))));

t.test('seeded: the same options give the same world, and more requests do not change the first ones', async (t) => {
  const few = [...makeWorld({ ...options, requests: 5 })];
  t.strictSame(few, world.slice(0, 5));
  t.notSame([...makeWorld({ ...options, requests: 5, seed: 2 })], few);
});

t.test('the click probability is the documented one, and a request shows all of it', async (t) => {
  let worst = 0;
  for (const s of world)
    candidatesOf(s).item.forEach((item, c) => {
      worst = Math.max(worst, Math.abs(logit(s.probabilities[c]!) - itemPart.get(item)! - interest(s, candidatesOf(s).category[c]!, whole)));
    });
  t.ok(worst < 1e-7, `log-odds differ by ${worst}`);
  t.ok(itemPart.size > options.items * 0.9);
});

t.test('the stated best AUC is what clicks drawn anew give', async (t) => {
  const p = world.flatMap((s) => [...s.probabilities]);
  const rng = new Random(99, 1);
  const drawn = Array.from({ length: 40 }, () => auc(Float32Array.from(p), Uint8Array.from(p, (x) => (rng.uniform() < x ? 1 : 0))));
  const mean = drawn.reduce((a, b) => a + b) / drawn.length;
  const sd = Math.sqrt(drawn.reduce((a, b) => a + (b - mean) ** 2, 0) / (drawn.length - 1));
  t.ok(Math.abs(bestAuc(world) - mean) < 4 * sd, `stated ${bestAuc(world)}, drawn ${mean} with a deviation of ${sd}`);
  t.ok(sd < 0.01, 'enough clicks to tell');
  const clicks = labels.reduce((a, b) => a + b, 0);
  const variance = p.reduce((a, x) => a + x * (1 - x), 0);
  t.ok(Math.abs(clicks - p.reduce((a, b) => a + b)) < 4 * Math.sqrt(variance), 'as many clicks as the probabilities say');
});

t.test('every mechanism is worth something: without its information less can be reached', async (t) => {
  const best = auc(scoresOf(whole));
  t.ok(Math.abs(best - bestAuc(world)) < 1e-6);
  const without: Readonly<Record<string, Float32Array>> = {
    'long-range interest': scoresOf({ ...whole, long: false }),
    'short-range interest': scoresOf({ ...whole, short: false }),
    'what follows a search': scoresOf({ ...whole, pair: false }),
    'time decay': scoresOf({ ...whole, decay: false }),
    'all but the newest 20 events': scoresOf({ ...whole, newest: 20 }),
    'bias of items': scoresOf(whole, false),
  };
  for (const [name, scores] of Object.entries(without)) {
    const lost = best - auc(scores);
    t.comment(`without ${name}: ${auc(scores).toFixed(4)} of ${best.toFixed(4)}`);
    t.ok(lost > 0.002, `${name} is worth ${lost.toFixed(4)}`);
  }
});

t.test('histories of 100,000 events', async (t) => {
  const [s] = [...makeWorld({ ...options, historyLength: 100_000, requests: 1, seed: 3 })];
  const { time } = historyOf(s!);
  t.ok(time.length >= 25_000 && time.length <= 100_000);
  t.ok(time.every((x, i) => (i === 0 || x >= time[i - 1]!) && x < (s!.request.time! as number)), 'oldest first, all before the request');
  t.ok(s!.probabilities.every((p) => p > 0 && p < 1));
});
