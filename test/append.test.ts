import t, { type Test } from 'tap';
import type { LongerConfig } from '../lib/model/config.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { State } from '../lib/native/plan.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { appendSafe, banded, random, richSchema, sameBits, tiny } from './helpers.ts';

const runtime = new Runtime({ threads: 2 });
t.teardown(() => { runtime.dispose(); });

type Event = { item: number; action: number; dwell: number; time: number };
const candidates = [{ item: 3, price: 1 }, { item: 9, price: 2 }];

const forms: Readonly<Record<string, LongerConfig>> = {
  full: appendSafe,
  'full, uid, cls, two self layers': { ...appendSafe, globals: { uid: 'user_id', cls: 1 }, selfLayers: 2 },
  'full, all queries, merge 1': { ...appendSafe, merge: 1, heads: 1, queries: { kind: 'all' } },
  'full, uniform': { ...appendSafe, queries: { kind: 'uniform', k: 3 } },
  'full, recent and uniform': { ...appendSafe, queries: { kind: 'recent+uniform', recent: 2, uniform: 3 } },
  'full, learnable': { ...appendSafe, queries: { kind: 'learnable', k: 2 } },
  banded,
  'banded, all queries, merge 3, flat head': { ...banded, merge: 3, inner: { blocks: 2, heads: 1 }, queries: { kind: 'all' }, selfLayers: 2, head: { kind: 'flatten', hidden: [6] } },
  'banded, no self layer, gate, swiglu': { ...banded, selfLayers: 0, gate: true, ffn: 'swiglu', norm: 'rms' },
  'banded, merge 5 in 23': { ...banded, maxHistory: 23, merge: 5, heads: 4 },
};

await t.test('random appends: the same bits as a prefill of the grown history', async (t) => {
  for (const [name, config] of Object.entries(forms))
    for (const precision of ['fp32', 'bf16'] as const) await sequence(t, name, config, precision);
});

async function sequence(t: Test, name: string, config: LongerConfig, precision: 'fp32' | 'bf16'): Promise<void> {
  const model = new ModelDescription(richSchema, config);
  using state = new State(model.layout.stores());
  model.initialise(state, 4);
  using ranker = new Ranker(model, state, runtime, { precision });
  const next = random(name.length + (precision === 'bf16' ? 100 : 0));
  const int = (n: number): number => Math.floor(next() * n);
  let time = 0;
  const events = (n: number): Event[] => Array.from({ length: n }, () => ({ item: int(50), action: int(3), dwell: next() * 200, time: (time += int(500)) }));
  const user = (i: number) => ({ user_id: `u${i}`, age: 30 + i, likes: [i, 7] });
  // Empty, one event, some, and one that begins in the middle of a user's history.
  const starts = [0, 0, 0, 7];
  const histories = [events(0), events(1), events(9), events(5)];
  const hours = histories.map(() => int(24));
  const requests = () => histories.map((history, i) => ({ user: user(i), context: { hour: hours[i]! }, time, historyStart: starts[i]!, history, candidates }));
  let cache = await ranker.prefill(requests());
  let kept = 0;
  for (let step = 0; step < 14; ++step) {
    // Some users do nothing, some a little; now and then one does more than is kept of a history.
    const added = histories.map(() => events([0, 1, 1, 2, 3, int(9), step === 6 ? 40 : 1][int(7)]!));
    time += 60;
    const before = new Map([...cache.arrays].map(([k, a]) => [k, a.read()] as const));
    if (step % 4 === 3) hours[1] = int(24);
    const grown = await ranker.append(cache, added.map((history, i) => ({ history, time, ...(i === 1 ? { context: { hour: hours[1]! } } : {}) })));
    t.ok([...before].every(([k, a]) => sameBits(a, cache.arrays.get(k)!.read())), `${name}: the old cache stays as it is`);
    added.forEach((list, i) => histories[i]!.push(...list));
    const cold = await ranker.prefill(requests());
    for (const [key, want] of cold.arrays) t.ok(sameBits(grown.arrays.get(key)!.read(), want.read()), `${name}, ${precision}, step ${step}: ${key}`);
    t.ok(sameBits(await ranker.score(grown, histories.map(() => candidates)), await ranker.score(cold)), `${name}, step ${step}: scores`);
    grown.reuse.forEach((r, i) => {
      t.ok(r.events.computed <= added[i]!.length + config.merge - 1, `${name}: ${r.events.computed} events computed for ${added[i]!.length}`);
      if (config.window === 'banded') t.ok(r.rows.computed <= Math.ceil(added[i]!.length / config.merge) + 1, `${name}: ${r.rows.computed} rows computed for ${added[i]!.length}`);
      t.ok(grown.requests[i]!.events <= config.maxHistory + 2 * config.merge + added[i]!.length + 40, 'old events go');
      kept += r.rows.kept;
    });
    cache = grown;
  }
  t.ok(config.queries.kind === 'learnable' || kept > 0, `${name}: ${kept} rows were taken over`);
}

await t.test('what an append cannot do is refused, with the form named', async (t) => {
  const growth = [{ history: [], time: 9000 }];
  const request = { user: { user_id: 'u', age: 3, likes: [] }, context: { hour: 1 }, time: 9000, history: [{ item: 1, action: 0, dwell: 5, time: 8000 }] };
  const cases: [Partial<LongerConfig>, RegExp][] = [
    [{ alignment: 'newest' }, /alignment 'newest'/], [{ position: 'recency' }, /position 'recency'/],
    [{ timeGap: tiny.timeGap }, /timeGap\.to 'request'/], [{ visibility: 'anchored' }, /visibility 'anchored'/],
  ];
  for (const [change, message] of cases) {
    const model = new ModelDescription(richSchema, { ...appendSafe, ...change });
    using state = new State(model.layout.stores());
    using ranker = new Ranker(model, state, runtime);
    await t.rejects(ranker.append(await ranker.prefill([request]), growth as never), { code: 'ERR_CONFIG', message });
  }
  const model = new ModelDescription(richSchema, appendSafe);
  using state = new State(model.layout.stores());
  using ranker = new Ranker(model, state, runtime);
  const cache = await ranker.prefill([request]);
  await t.rejects(ranker.append(cache, []), { code: 'ERR_SHAPE' });
  await t.rejects(ranker.append(cache, [{ history: [{ item: 1, action: 0, dwell: 5, time: 7999 }], time: 9000 }] as never), { code: 'ERR_DATA', place: 'request 0: history[0].time' });
  await t.rejects(ranker.append(cache, [{ history: [], time: 8999 }] as never), { code: 'ERR_DATA', place: 'request 0: time' });
  await t.rejects(ranker.append(cache, [{ history: [{ item: 1, action: 0, dwell: 5, time: 9001 }], time: 9000 }] as never), { code: 'ERR_DATA' });
  await t.rejects(ranker.append(cache, [{ history: [{ action: 0, dwell: 5, time: 8001 }], time: 9000 }] as never), { code: 'ERR_DATA', place: 'request 0: history[0].item' });
});
