import t from 'tap';
import { firstKept, packBatch } from '../lib/data/batch.ts';
import { historyForm, type LongerConfig, queryCount } from '../lib/model/config.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { segmentsOf } from '../lib/model/visibility.ts';
import { State } from '../lib/native/plan.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { encodeRequest, type EncodedRequest } from '../lib/schema/encode.ts';
import { appendSafe, banded, random, richSchema, tiny } from './helpers.ts';

const runtime = new Runtime({ threads: 2 });
t.teardown(() => { runtime.dispose(); });

/** A user's events from number `start` on, as a request that knows of no others. */
function request(events: number, start: number): EncodedRequest {
  const next = random(3);
  const int = (n: number): number => Math.floor(next() * n);
  let time = 0;
  const history = Array.from({ length: events }, () => ({ item: int(50), action: int(3), dwell: next() * 200, time: (time += int(500)) }));
  return encodeRequest(richSchema, {
    user: { user_id: 'u', age: 40, likes: [1] }, context: { hour: 3 }, time: time + 60, historyStart: start, history: history.slice(start),
    candidates: [{ item: 3, price: 1 }, { item: 4, price: 2 }],
  });
}

await t.test('what is kept is said by the ordinals of events, not by how much was handed over', async (t) => {
  const forms: Readonly<Record<string, LongerConfig>> = {
    oldest: { ...tiny, alignment: 'oldest' }, appendSafe, banded, 'merge 1': { ...banded, merge: 1, heads: 1 }, 'merge 5': { ...appendSafe, maxHistory: 23, merge: 5 },
  };
  for (const [name, config] of Object.entries(forms)) {
    const model = new ModelDescription(richSchema, config);
    using state = new State(model.layout.stores());
    model.initialise(state, 2);
    using ranker = new Ranker(model, state, runtime);
    for (let events = 20; events < 60; events += 3) {
      const whole = request(events, 0);
      const first = firstKept(richSchema, historyForm(config), whole);
      t.equal(first % config.merge, 0, `${name}: a group begins`);
      t.ok(events - first <= config.maxHistory && (first === 0 || events - first > config.maxHistory - 2 * config.merge), `${name}: ${events} events, from ${first}`);
      const wanted = await ranker.score(await ranker.prefill([whole]));
      const enough = request(events, Math.max(0, first - 1));
      t.same(await ranker.score(await ranker.prefill([enough])), wanted, `${name}: ${events} events`);
    }
  }
});

await t.test('a banded row sees the same merged tokens in every history that it asks in', (t) => {
  for (const config of [banded, { ...banded, queries: { kind: 'all' } as const }, { ...banded, maxHistory: 26, queries: { kind: 'recent', k: 2 } as const }]) {
    const most = Math.floor(config.maxHistory / config.merge);
    const known = new Map<number, string>();
    for (let groups = 0; groups < 60; ++groups) {
      const first = Math.max(0, groups - most);
      const rows = segmentsOf(config, { first, count: groups - first }).flatMap(({ start, asks }) => asks.map((g, i) => ({ g, seen: `${start}, ${asks.slice(0, i).join(' ')}`, start })));
      for (const { g, seen, start } of rows) {
        t.equal(known.get(g) ?? seen, seen);
        t.ok(start >= first && start <= g, `group ${g} of ${groups}`);
        known.set(g, seen);
      }
      t.same(rows.map((r) => r.g), Array.from(rows, (_, i) => groups - rows.length + i), 'the newest ask');
      t.ok(rows.length <= queryCount(config));
    }
  }
  t.end();
});

await t.test('what does not fit together is refused', (t) => {
  const refused = (config: Partial<LongerConfig>): void => {
    t.throws(() => new ModelDescription(richSchema, { ...banded, ...config }), { code: 'ERR_CONFIG', place: 'model.window' });
  };
  refused({ alignment: 'newest' });
  refused({ visibility: 'anchored' });
  refused({ queries: { kind: 'uniform', k: 4 } });
  refused({ queries: { kind: 'recent', k: 1 } });
  const model = new ModelDescription(richSchema, appendSafe);
  t.throws(() => model.inputs(packBatch(richSchema, [request(9, 0)], { maxHistory: 24 })), { code: 'ERR_DATA' });
  for (const historyStart of [-1, 1.5, 2 ** 31, 'x'])
    t.throws(() => encodeRequest(richSchema, { user: { user_id: 'u', age: 1, likes: [] }, context: { hour: 1 }, time: 1, history: [], candidates: [], historyStart } as never), {
      code: 'ERR_DATA', place: 'request: historyStart',
    });
  t.end();
});
