import fc from 'fast-check';
import t from 'tap';
import { packBatch } from '../lib/data/batch.ts';
import { batches } from '../lib/data/batches.ts';
import { LongerError } from '../lib/errors.ts';
import { timeBoundaries } from '../lib/model/features.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { anchorCount, historyRows } from '../lib/model/visibility.ts';
import { Plan, State } from '../lib/native/plan.ts';
import { Runtime } from '../lib/native/runtime.ts';
import type { DimSpec, GraphSpec } from '../lib/native/types.ts';
import { encodeRequest, type EncodedRequest } from '../lib/schema/encode.ts';
import { trainDefaults } from '../lib/train/options.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { models, requests, richSchema, tiny, variants } from './helpers.ts';

const runtime = new Runtime({ threads: 2 });
t.teardown(() => { runtime.dispose(); });

interface Plain {
  user: Record<string, unknown>;
  context: Record<string, unknown>;
  time: number;
  history: Record<string, unknown>[];
  candidates: Record<string, unknown>[];
  labels: Record<string, (number | null)[]>;
}
const item = fc.nat(49);
const dwell = fc.double({ min: -1e6, max: 1e6, noNaN: true });
const legal: fc.Arbitrary<Plain> = fc.record({
  user: fc.record({ user_id: fc.oneof(fc.string(), fc.maxSafeInteger(), fc.bigInt({ min: 0n, max: 2n ** 63n })), age: fc.double({ min: 0, max: 120, noNaN: true }), likes: fc.array(item, { maxLength: 4 }) }),
  context: fc.record({ hour: fc.nat(23) }),
  gaps: fc.array(fc.nat(1000), { maxLength: 6 }),
  after: fc.nat(1000),
  events: fc.array(fc.record({ item, action: fc.nat(2), dwell }), { minLength: 6, maxLength: 6 }),
  candidates: fc.array(fc.tuple(fc.record({ item, price: dwell }), fc.constantFrom(0, 1, null), fc.constantFrom(0, 1, null)), { maxLength: 4 }),
}).map(({ user, context, gaps, after, events, candidates }) => {
  let time = 1000;
  const history = gaps.map((gap, i) => ({ ...events[i]!, time: (time += gap) }));
  return { user, context, time: time + after, history, candidates: candidates.map(([c]) => c), labels: { click: candidates.map(([, y]) => y), buy: candidates.map(([, , y]) => y) } };
});
const encode = (request: Plain) => encodeRequest(richSchema, request as never, 'here');

await t.test('batches hold every request once, in order, and none could take the first of the next', async () => {
  const limit = fc.integer({ min: 1, max: 12 });
  await fc.assert(fc.asyncProperty(fc.array(legal, { maxLength: 12 }), limit, limit, limit, async (plain, maxEvents, maxRequests, maxCandidates) => {
    const maxHistory = 4;
    const encoded = plain.map(encode);
    const made: (readonly EncodedRequest[])[] = [];
    for await (const batch of batches(richSchema, encoded, { maxHistory, maxEvents, maxRequests, maxCandidates })) made.push(batch.encoded);
    const within = (list: typeof encoded): boolean =>
      list.length <= maxRequests && list.reduce((n, r) => n + Math.min(r.events, maxHistory), 0) <= maxEvents && list.reduce((n, r) => n + r.candidates, 0) <= maxCandidates;
    const joined = made.flat();
    return joined.length === encoded.length && joined.every((r, i) => r === encoded[i])
      && made.every((b, i) => (b.length === 1 || within([...b])) && (i + 1 === made.length || !within([...b, made[i + 1]![0]!])));
  }), { numRuns: 200 });
});

await t.test('any legal request encodes, to its own ids', (t) => {
  fc.assert(fc.property(legal, (request) => {
    const e = encode(request);
    t.equal(e.events, request.history.length);
    t.same([...e.event.ids.get('item')!], request.history.map((h) => h['item']));
    t.same([...e.candidate.ids.get('item')!], request.candidates.map((c) => c['item']));
    t.ok(e.user.ids.get('user_id')![0]! >= 0 && e.user.ids.get('user_id')![0]! < 40);
    t.same(Array.from(e.labels, (y) => (Number.isNaN(y) ? null : y)), request.candidates.flatMap((_, c) => [request.labels['click']![c], request.labels['buy']![c]]));
  }), { numRuns: 200 });
  t.end();
});

/** Spoils one place of a request, and says which; null where the request has no such place. */
const mutations: readonly ((r: Plain, at: number, bad: unknown) => string | null)[] = [
  (r, _, bad) => { r.user['age'] = bad; return 'user.age'; },
  (r) => { r.user['user_id'] = 1.5; return 'user.user_id'; },
  (r) => { (r.user['likes'] as number[]).push(50); return `user.likes[${(r.user['likes'] as number[]).length - 1}]`; },
  (r) => { r.user['likes'] = 7; return 'user.likes'; },
  (r) => { r.context['hour'] = 24; return 'context.hour'; },
  (r) => { (r as { context: unknown }).context = null; return 'context'; },
  (r, _, bad) => { (r as { time: unknown }).time = bad; return 'time'; },
  (r, at) => { if (!r.history[at]) return null; r.history[at]['item'] = -1; return `history[${at}].item`; },
  (r, at) => { if (!r.history[at]) return null; delete r.history[at]['action']; return `history[${at}].action`; },
  (r, at, bad) => { if (!r.history[at]) return null; r.history[at]['dwell'] = bad; return `history[${at}].dwell`; },
  (r, at) => { if (!r.history[at]) return null; r.history[at]['time'] = r.time + 1; return `history[${at}].time`; },
  (r, at) => { if (!r.history[at + 1]) return null; r.history[at + 1]!['time'] = Number(r.history[at]!['time']) - 1; return `history[${at + 1}].time`; },
  (r, at) => { if (!r.history[at]) return null; (r.history as unknown[])[at] = [1]; return `history[${at}]`; },
  (r, at) => { if (!r.candidates[at]) return null; r.candidates[at]['item'] = 'x'; return `candidates[${at}].item`; },
  (r, at, bad) => { if (!r.candidates[at]) return null; r.candidates[at]['price'] = bad; return `candidates[${at}].price`; },
  (r, at) => { if (!r.candidates[at]) return null; r.labels['buy']![at] = 2; return `labels.buy[${at}]`; },
  (r) => { r.labels['click']!.push(0); return 'labels.click'; },
];

await t.test('any single illegal change is an error that names its place', (t) => {
  const bad = fc.constantFrom<unknown>(NaN, Infinity, undefined, null, 'x', {}, [1]);
  fc.assert(fc.property(legal, fc.nat(mutations.length - 1), fc.nat(4), bad, (request, m, at, value) => {
    const spoiled = structuredClone(request);
    const place = mutations[m]!(spoiled, at, value);
    fc.pre(place !== null);
    try {
      encode(spoiled);
    } catch (error) {
      if (!(error instanceof LongerError)) throw error;
      t.equal(error.code, 'ERR_DATA');
      t.equal(error.place, `here: ${place}`, error.message);
      return;
    }
    throw new Error(`${place} was accepted`);
  }), { numRuns: 600 });
  t.end();
});

const lists = fc.array(fc.tuple(fc.nat(30), fc.nat(4)), { minLength: 1, maxLength: 6 });

await t.test('a batch is its requests packed alone, end to end', (t) => {
  fc.assert(fc.property(lists, fc.nat(25), fc.nat(1000), (shape, maxHistory, seed) => {
    const encoded = shape.flatMap(([n, c], i) => requests([n], [c], seed + i));
    const batch = packBatch(richSchema, encoded, { maxHistory });
    const alone = encoded.map((e) => packBatch(richSchema, [e], { maxHistory }));
    for (const [name, column] of batch.columns) {
      const joined: number[] = name.endsWith('offsets') ? [0] : [];
      for (const one of alone) {
        const part = one.columns.get(name)!;
        if (!name.endsWith('offsets')) joined.push(...part);
        else {
          const base = joined.at(-1)!;
          joined.push(...Array.from(part.subarray(1), (x) => base + x));
        }
      }
      t.same([...column], joined, name);
    }
    t.equal(batch.events, alone.reduce((n, b) => n + b.events, 0));
  }), { numRuns: 60 });
  t.end();
});

await t.test('scores do not depend on what else is in the batch', async (t) => {
  for (const name of ['paper, uid and cls', 'anchored', 'learnable', 'din']) {
    const config = models[name]!;
    const trainer = new Trainer(new ModelDescription(richSchema, config), trainDefaults, runtime);
    const scores = async (encoded: Parameters<typeof packBatch>[1]): Promise<number[]> => [...(await trainer.predict(packBatch(richSchema, encoded, { maxHistory: config.maxHistory })))];
    await fc.assert(fc.asyncProperty(lists, fc.nat(1000), async (shape, seed) => {
      const encoded = shape.flatMap(([n, c], i) => requests([n], [c], seed + i));
      const together = await scores(encoded);
      const alone = (await Promise.all(encoded.map((e) => scores([e])))).flat();
      const backwards = (await scores([...encoded].reverse()));
      t.ok(together.every((x, i) => Object.is(x, alone[i])) && together.length === alone.length, name);
      let end = backwards.length;
      for (const [r, e] of encoded.entries()) {
        const n = 2 * e.candidates;
        const from = encoded.slice(0, r).reduce((k, o) => k + 2 * o.candidates, 0);
        t.ok(together.slice(from, from + n).every((x, i) => Object.is(x, backwards[end - n + i])), `${name}, in another order`);
        end -= n;
      }
    }), { numRuns: 12 });
    trainer.dispose();
  }
});

await t.test('who sees whom, row by row, as the definition says', (t) => {
  const configs = Object.values(variants).filter((c) => c.alignment !== 'oldest' && c.window !== 'banded');
  fc.assert(fc.property(fc.constantFrom(...configs), fc.array(fc.nat(24), { minLength: 1, maxLength: 5 }), (config, lengths) => {
    const h = historyRows(config, lengths.map((n) => ({ first: 0, count: Math.ceil(n / config.merge) })));
    const anchors = anchorCount(config);
    const keys = h.keyOffsets[lengths.length]!;
    for (let r = 0; r < lengths.length; ++r) {
      const groups = Math.ceil(lengths[r]! / config.merge);
      const [firstKey, first, end] = [h.keyOffsets[r]!, h.queryOffsets[r]!, h.queryOffsets[r + 1]!];
      t.equal(h.keyOffsets[r + 1]! - firstKey, anchors + groups);
      // What each asking row is: an anchor, the token of a position, or a learnable query.
      const rows = Array.from({ length: end - first }, (_, i) => {
        const key = h.queryIndex[first + i]!;
        return key >= keys ? { learnable: key - keys } : key - firstKey < anchors ? { anchor: key - firstKey } : { token: key - firstKey - anchors };
      });
      const sees = (a: (typeof rows)[number], b: (typeof rows)[number]): boolean => {
        if (b.anchor !== undefined || a.anchor !== undefined) return true; // anchors see and are seen by all that is the user's
        if (b.token !== undefined) return a.token === undefined || b.token <= a.token;
        return a.learnable !== undefined && b.learnable! <= a.learnable;
      };
      if (config.queries.kind === 'recent') t.same(rows.flatMap((x) => x.token ?? []), Array.from({ length: groups }, (_, i) => i).slice(-config.queries.k));
      if (config.queries.kind === 'learnable') t.same(rows.flatMap((x) => x.learnable ?? []), Array.from({ length: config.queries.k }, (_, i) => i));
      rows.forEach((row, i) => {
        for (let key = 0; key < anchors + groups; ++key)
          t.equal(key < h.crossLimits[first + i]!, sees(row, key < anchors ? { anchor: key } : { token: key - anchors }), `cross: row ${i} and key ${key}`);
        rows.forEach((other, j) => { t.equal(j < h.selfLimits[first + i]!, sees(row, other), `self: row ${i} and row ${j}`); });
      });
    }
  }), { numRuns: 60 });
  t.end();
});

await t.test('time buckets exactly at their boundaries: the kernels give the number of boundaries that are at most the gap', async (t) => {
  const fixed = (constant: number): DimSpec => ({ constant, terms: [] });
  const events: DimSpec = { constant: 0, terms: [[0, 1]] };
  for (const buckets of [2, 16, 64]) {
    const boundaries = timeBoundaries(buckets);
    t.ok(boundaries.every((b, j) => Number.isInteger(b) && (j === 0 || b > boundaries[j - 1]!) && (b === j + 1 || b === Math.ceil(Math.sqrt(2 ** j)) || j > 50)), 'ceil(2^(j/2)), made ascending');
    const gaps = [-5, -0.5, 0, 0.5, ...[...boundaries].flatMap((b) => [b - 1, b - 0.25, b, b + 0.25, b + 1])];
    const graph: GraphSpec = {
      symbols: ['E'],
      values: [
        { name: 'event', dtype: 'f64', dims: [events], place: 'input' }, { name: 'request', dtype: 'f64', dims: [fixed(1)], place: 'input' },
        { name: 'offsets', dtype: 'i32', dims: [fixed(2)], place: 'input' }, { name: 'boundaries', dtype: 'f64', dims: [fixed(buckets - 1)], place: 'input' },
        { name: 'ids', dtype: 'i32', dims: [events], place: 'output' },
      ],
      nodes: [{ op: 'time_bucket', name: 'bucket', inputs: [0, 1, 2, 3], outputs: [4], attrs: [] }],
    };
    const wanted = gaps.map((gap) => boundaries.filter((b) => b <= Math.max(0, gap)).length);
    for (const backend of ['cpu', 'reference'] as const) {
      using state = new State([], backend);
      using plan = new Plan(graph, state, runtime);
      const ids = new Int32Array(gaps.length);
      await plan.run({ E: gaps.length }, new Map<string, Float64Array | Int32Array>([
        ['event', Float64Array.from(gaps, (gap) => -gap)], ['request', Float64Array.of(0)], ['offsets', Int32Array.of(0, gaps.length)], ['boundaries', boundaries],
      ]), new Map([['ids', ids]]));
      t.same([...ids], wanted, `${buckets} buckets, ${backend}`);
    }
  }
  // TypeScript's own search, which a model with gaps to the event before uses.
  const previous = new ModelDescription(richSchema, { ...tiny, timeGap: { ...tiny.timeGap, to: 'previous' } });
  const boundaries = timeBoundaries(tiny.timeGap.buckets);
  const gaps = [0, ...[...boundaries].slice(0, 6).flatMap((b) => [b - 1, b, b + 1])];
  let time = 0;
  const history = gaps.map((gap) => ({ item: 1, action: 0, dwell: 1, time: (time += gap) }));
  const encoded = encodeRequest(richSchema, { user: { user_id: 1, age: 1, likes: [] }, context: { hour: 0 }, time, history, candidates: [] } as never);
  const { arrays } = previous.inputs(packBatch(richSchema, [encoded], { ...tiny, timeGap: { ...tiny.timeGap, to: 'previous' } }));
  t.same([...arrays.get('event.gap_bucket')!].slice(1), gaps.slice(1).map((gap) => boundaries.filter((b) => b <= gap).length), 'the first event has none before it');
});
