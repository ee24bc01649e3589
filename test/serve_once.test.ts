import t from 'tap';
import { ModelDescription } from '../lib/model/model.ts';
import { State } from '../lib/native/plan.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { crossover } from '../lib/serve/crossover.ts';
import { models, requests, richSchema, sameBits } from './helpers.ts';
import { alone, request, runtime, saved, service, unordered } from './serve_helpers.ts';

await t.test('scores without a cache are the bits of those with one, and what is faster is measured, for every model', async (t) => {
  for (const [name, config] of Object.entries(models)) for (const precision of ['fp32', 'bf16'] as const) {
    const model = new ModelDescription(richSchema, config);
    using state = new State(model.layout.stores());
    model.initialise(state, 3);
    using ranker = new Ranker(model, state, runtime, { precision });
    const encoded = requests([5, 0, 24, 1, 30], [3, 1, 4], 9);
    t.ok(sameBits(await ranker.scoreOnce(encoded), await ranker.score(await ranker.prefill(encoded))), `${name}, ${precision}`);
    t.ok((await crossover(ranker, 5)) >= 0, name);
  }
});

await t.test('a call that says so leaves no cache, uses one that is there, and gets the same bits', async (t) => {
  const directory = await saved(t);
  const served = await service(t, directory, { plainBelow: 6, slice: 8 });
  const asked = [1, 2, 3, 4].map((seed) => request(seed, 9 * seed, 5));
  const told = await Promise.all(asked.map((r) => served.rank({ ...r, reuse: false })));
  for (const [i, r] of asked.entries()) {
    const wanted = await alone(directory, r);
    t.same(unordered(told[i]!, 'click'), wanted['click']);
    t.same(unordered(told[i]!, 'buy'), wanted['buy']);
    t.equal(told[i]!.cache, 'miss');
  }
  t.match(served.stats(), { plain: 4, prefills: 0, rows: 20, cache: { entries: 0, pagesUsed: 0 } });
  t.equal((await served.rank(asked[0]!)).cache, 'miss');
  t.equal((await served.rank({ ...asked[0]!, reuse: false })).cache, 'hit', 'what is there is used');
  t.match(served.stats(), { plain: 4, prefills: 1 });
  await served.rank({ ...request(9, 12, 6), reuse: false });
  t.match(served.stats(), { plain: 4, prefills: 2 }, 'as many candidates as the crossover: with a cache');
  t.equal((await served.rank({ ...request(10, 12, 5), reuse: false, explain: 2 })).explanations!.length, 5);
  await t.rejects(served.rank({ ...asked[0]!, reuse: 1 as never }), { code: 'ERR_DATA', place: 'reuse' });
});

await t.test('measured where it is not given, never with 0, and none is late for it', async (t) => {
  const directory = await saved(t);
  const measured = await service(t, directory, { crossover: 20 });
  const many = await Promise.all([1, 2, 3, 4, 5].map((seed) => measured.rank({ ...request(seed, 12, 300), reuse: false })));
  t.ok(many.every((r) => r.index.length === 300));
  t.equal(measured.stats().plain, 0, 'more than a slice is scored in slices, from a cache');
  await measured.rank({ ...request(6, 12, 1), reuse: false });
  t.equal(measured.stats().plain + measured.stats().prefills, 6);
  const never = await service(t, directory, { plainBelow: 0 });
  await never.rank({ ...request(1), reuse: false });
  t.match(never.stats(), { plain: 0, prefills: 1 });
});
