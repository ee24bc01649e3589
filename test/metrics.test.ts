import fc from 'fast-check';
import t from 'tap';
import { areaUnderCurve, rankingAtK, sortedOrder } from '../lib/train/metrics.ts';
import { MetricSet } from '../lib/train/metric_set.ts';

const sample = fc.record({ p: fc.integer({ min: 0, max: 8 }).map((x) => x / 8), y: fc.integer({ min: 0, max: 1 }) });

function pairwiseAuc(list: readonly { p: number; y: number }[]): number {
  let pairs = 0;
  let won = 0;
  for (const a of list) for (const b of list) if (a.y === 1 && b.y === 0) {
    pairs++;
    won += a.p > b.p ? 1 : a.p === b.p ? 0.5 : 0;
  }
  return won / pairs;
}

await t.test('AUC equals counting all pairs, ties one half', (t) => {
  fc.assert(fc.property(fc.array(sample, { minLength: 1, maxLength: 40 }), (list) => {
    const scores = Float32Array.from(list, (s) => s.p);
    const auc = areaUnderCurve(scores, Uint8Array.from(list, (s) => s.y), sortedOrder(scores));
    const expected = pairwiseAuc(list);
    return Object.is(auc, expected) || Math.abs(auc - expected) < 1e-12;
  }));
  t.end();
});

await t.test('AUC and GAUC of a set equal counting all pairs, of all and of each user, whatever the ties and the order of the requests', (t) => {
  const impression = fc.record({ user: fc.constantFrom('a', 'b', 'c', 'd'), p: fc.integer({ min: 0, max: 4 }).map((x) => x / 4), y: fc.constantFrom(0, 1, NaN) });
  fc.assert(fc.property(fc.array(fc.array(impression, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 12 }), fc.integer({ min: 1, max: 4 }), (requests, at) => {
    const set = new MetricSet({ replicates: 0 });
    // A request is of one user; what is added in one call or in several is the same.
    const owned = requests.map((r) => r.map((x) => ({ ...x, user: r[0]!.user })));
    for (let i = 0; i < owned.length; i += at) {
      const part = owned.slice(i, i + at);
      const flat = part.flat();
      set.add(part.map((r) => r[0]!.user), flat.map((x) => x.p), flat.map((x) => x.y), [0, ...part.map((_, k) => part.slice(0, k + 1).flat().length)]);
    }
    const labelled = owned.flat().filter((x) => !Number.isNaN(x.y));
    const users = ['a', 'b', 'c', 'd'].map((u) => labelled.filter((x) => x.user === u)).filter((mine) => new Set(mine.map((x) => x.y)).size === 2);
    const gauc = users.reduce((sum, mine) => sum + mine.length * pairwiseAuc(mine), 0) / users.reduce((n, mine) => n + mine.length, 0);
    const { values } = set.result();
    const same = (got: number | undefined, wanted: number): boolean => Object.is(got, wanted) || Math.abs(got! - wanted) < 1e-12;
    return same(values.auc, pairwiseAuc(labelled)) && same(values.gauc, gauc);
  }), { numRuns: 300 });
  t.end();
});

await t.test('the order sorts any floats and is stable', (t) => {
  fc.assert(fc.property(fc.array(fc.float({ noNaN: true }), { maxLength: 60 }), (list) => {
    const scores = Float32Array.from(list);
    const expected = [...scores.keys()].sort((a, b) => scores[a]! - scores[b]! || a - b);
    // Infinity - Infinity is NaN, which `||` turns into the stable order.
    t.strictSame([...sortedOrder(scores)], expected);
  }), { numRuns: 50 });
  t.end();
});

await t.test('HR and NDCG are means over all orders of tied candidates, and of requests alone that some order does worse on', (t) => {
  const permutations = (list: number[]): number[][] =>
    list.length === 0 ? [[]] : list.flatMap((x, i) => permutations(list.toSpliced(i, 1)).map((rest) => [x, ...rest]));
  fc.assert(fc.property(fc.array(sample, { minLength: 1, maxLength: 5 }), fc.integer({ min: 1, max: 6 }), (list, k) => {
    const got = rankingAtK(list.map((s) => s.p), list.map((s) => s.y), [k]);
    const total = list.reduce((a, s) => a + s.y, 0);
    if (total === 0) return got === null;
    let ideal = 0;
    for (let r = 0; r < Math.min(k, total); r++) ideal += 1 / Math.log2(r + 2);
    const worths = (orders: number[][]): { hit: number[]; ndcg: number[] } => {
      const first = orders.map((o) => o.slice(0, k).map((x) => list[x]!.y));
      return { hit: first.map((y) => Math.max(...y)), ndcg: first.map((y) => y.reduce((a, x, r) => a + x / Math.log2(r + 2), 0) / ideal) };
    };
    const all = permutations([...list.keys()]);
    const [any, own] = [worths(all), worths(all.filter((o) => o.every((x, i) => i === 0 || list[o[i - 1]!]!.p >= list[x]!.p)))];
    return (['hit', 'ndcg'] as const).every((name) => {
      const mean = own[name].reduce((a, b) => a + b) / own[name].length;
      const decided = Math.max(...any[name]) - Math.min(...any[name]) < 1e-9;
      return decided ? Number.isNaN(got![0]![name]) : Math.abs(got![0]![name] - mean) < 1e-12;
    });
  }), { numRuns: 300 });
  t.end();
});

await t.test('requests that a ranking cannot fail are in no HR and NDCG, and the counts say how many are', (t) => {
  const set = new MetricSet({ ks: [1, 2, 5] });
  const add = (user: string, probabilities: number[], labels: number[]): void => { set.add([user], probabilities, labels, [0, labels.length]); };
  add('a', [0.9], [1]); // one candidate
  add('a', [0.9], [0]);
  add('a', [0.5, 0.4], [1, 1]); // positives alone
  add('b', [0.5, 0.4, 0.3], [0, 0, 0]); // no positive
  add('b', [0.5, 0.4, 0.1], [1, NaN, NaN]); // one with a label
  t.strictSame(set.result().rankedRequests, { 'hr@1': 0, 'ndcg@1': 0, 'hr@2': 0, 'ndcg@2': 0, 'hr@5': 0, 'ndcg@5': 0 });
  t.ok(Object.entries(set.result().values).every(([name, v]) => !/@/.test(name) || Number.isNaN(v)), 'no request counts, no value');
  t.notOk(Object.keys(set.result().intervals).some((name) => name.includes('@')));
  add('a', [0.5, 0.4], [0, 1]); // one negative: HR@1 and NDCG
  add('b', [0.5, 0.4, 0.3], [0, 0, 1]); // two: HR@2 as well
  const { values, rankedRequests, intervals } = set.result();
  t.strictSame(rankedRequests, { 'hr@1': 2, 'ndcg@1': 2, 'hr@2': 1, 'ndcg@2': 2, 'hr@5': 0, 'ndcg@5': 2 });
  t.match(values, { 'hr@1': 0, 'ndcg@1': 0, 'hr@2': 0, 'ndcg@2': 1 / Math.log2(3) / 2 });
  t.ok(Math.abs(values['ndcg@5']! - (1 / Math.log2(3) + 1 / 2) / 2) < 1e-12);
  t.ok(Number.isNaN(values['hr@5']) && intervals['hr@5'] === undefined);
  t.end();
});

await t.test('a set of metrics, by hand', (t) => {
  const set = new MetricSet({ ks: [1] });
  set.add(['a', 'b'], [0.75, 0.25, 0.5, 0.5], [1, 0, 1, 1], [0, 2, 4]);
  set.add(['a'], [0.5, 0.25], [NaN, 0], Float32Array.of(0, 2));
  const { values, intervals, ...counts } = set.result();
  t.strictSame(counts, { samples: 5, positives: 3, users: 2, usersWithBothClasses: 1, rankedRequests: { 'hr@1': 1, 'ndcg@1': 1 } });
  const loss = (-Math.log(0.75) * 3 - Math.log(0.5) * 2) / 5;
  t.equal(values.auc, 1);
  t.equal(values.gauc, 1, 'user b has one class');
  t.ok(Math.abs(values.logLoss! - loss) < 1e-12);
  t.ok(Math.abs(values.ne! - loss / -(0.6 * Math.log(0.6) + 0.4 * Math.log(0.4))) < 1e-12);
  t.ok(Math.abs(values.calibration! - 2.25 / 3) < 1e-12);
  t.equal(values['hr@1'], 1);
  t.ok(intervals.logLoss![0] <= values.logLoss! && values.logLoss! <= intervals.logLoss![1]);
  t.strictSame(set.result().intervals, intervals, 'seeded');
  t.throws(() => { set.add(['a'], [1.5], [1], [0, 1]); }, { code: 'ERR_DATA' });
  t.throws(() => { set.add(['a'], [0.5], [2], [0, 1]); }, { code: 'ERR_DATA' });
  t.throws(() => { set.add(['a'], [0.5], [1], [0, 2]); }, { code: 'ERR_DATA' });
  t.ok(Number.isNaN(new MetricSet().result().values.auc), 'nothing added');
  t.end();
});

await t.test('a million samples', (t) => {
  const n = 1_000_000;
  const size = 10;
  const p = Float32Array.from({ length: n }, (_, i) => ((i * 7919) % 10007) / 10007);
  const y = Uint8Array.from(p, (x, i) => ((i * 31) % 101) / 101 < x ? 1 : 0);
  const offsets = Int32Array.from({ length: n / size + 1 }, (_, i) => i * size);
  const set = new MetricSet({ replicates: 50 });
  set.add(Array.from({ length: n / size }, (_, i) => `u${i % 5000}`), p, y, offsets);
  const { values, intervals } = set.result();
  t.ok(Math.abs(values.auc! - 5 / 6) < 0.01);
  t.ok(intervals.auc![0] < values.auc! && values.auc! < intervals.auc![1] && intervals.auc![1] - intervals.auc![0] < 0.01);
  t.end();
});
