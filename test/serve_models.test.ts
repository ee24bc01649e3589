import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Ranker } from '../lib/rank/ranker.ts';
import { banded } from './helpers.ts';
import { alone, request, runtime, saved, scores, service, unordered } from './serve_helpers.ts';

await t.test('a model is swapped under load: no call fails, none mixes versions, old caches are gone', async (t) => {
  const [a, b] = [await saved(t, 1), await saved(t, 2)];
  const ranks = await service(t, a, { slice: 3, rows: 6 });
  const r = request(1, 20, 30);
  const first = ranks.model.version;
  const [ofA, ofB] = [await alone(a, r), await alone(b, r)];
  t.notSame(ofA, ofB);
  const inFlight = Array.from({ length: 6 }, () => ranks.rank(r));
  const swap = ranks.load(b);
  while (ranks.model.version === first) { inFlight.push(ranks.rank(r)); await new Promise((resolve) => setImmediate(resolve)); if (inFlight.length > 200) await swap; }
  const { version } = await swap;
  const after = await ranks.rank(r);
  for (const result of [...await Promise.all(inFlight), after]) t.same(unordered(result, 'click'), result.model === version ? ofB['click'] : ofA['click']);
  t.equal(after.model, version);
  t.equal(ranks.stats().cache.entries, 1);

  const broken = mkdtempSync(join(tmpdir(), 'longer-broken-'));
  t.teardown(() => { rmSync(broken, { recursive: true }); });
  const step = readdirSync(a).find((n) => n.startsWith('step-'))!;
  mkdirSync(join(broken, step));
  for (const f of readdirSync(join(a, step))) copyFileSync(join(a, step, f), join(broken, step, f));
  const file = join(broken, step, readdirSync(join(broken, step)).find((f) => f.startsWith('model'))!);
  truncateSync(file, statSync(file).size - 9);
  await t.rejects(ranks.load(join(broken, step)), { code: 'ERR_CHECKPOINT' });
  t.equal(ranks.model.version, version, 'a failed load changes nothing');
  t.equal((await ranks.rank(r)).cache, 'hit');
});

await t.test('the next model is warm for those who were ranked last, within its time and half of the pages', async (t) => {
  const [a, b] = [await saved(t, 1, banded), await saved(t, 2, banded)];
  using ranker = await Ranker.open(b, { runtime });
  const users = Array.from({ length: 9 }, (_, i) => request(1 + i, 30, 3));
  for (const [options, warm] of [[{}, 9], [{ warmup: 0 }, 0], [{ cacheBytes: 9 * 18 * 64 }, 5]] as const) {
    const ranks = await service(t, a, options);
    for (const r of users) await ranks.rank(r);
    const { prefills, cache } = ranks.stats();
    t.match(ranks.stats(), { prefills: 9 });
    const loaded = ranks.load(b);
    const during = ranks.rank(users[8]!);
    const { version } = await loaded;
    await during;
    t.same([ranks.stats().prefills, ranks.stats().cache.misses], [prefills, cache.misses], 'warming is no call');
    let hits = 0;
    for (const r of users.toReversed()) {
      const result = await ranks.rank(r);
      t.equal(result.model, version);
      t.same(unordered(result, 'buy'), (await scores(ranker, r))['buy']);
      if (result.cache === 'hit') ++hits;
    }
    t.equal(hits, warm, JSON.stringify(options));
    await ranks.close();
  }
});

await t.test('a model is swapped in while the calls in flight hold all pages', async (t) => {
  const [a, b] = [await saved(t, 1, banded), await saved(t, 2, banded)];
  const ranks = await service(t, a, { cacheBytes: 3 * 18 * 64, slice: 2, rows: 6 });
  const users = Array.from({ length: 6 }, (_, i) => request(1 + i, 30, 40));
  const wanted = await Promise.all([a, b].map((model) => Promise.all(users.map((r) => alone(model, r)))));
  const first = ranks.model.version;
  const inFlight = users.map((r) => ranks.rank(r));
  while (ranks.stats().rows < 20) await new Promise((resolve) => setImmediate(resolve));
  await ranks.load(b);
  const results = await Promise.all([...inFlight, ...users.map((r) => ranks.rank(r))]);
  results.forEach((result, i) => t.same(unordered(result, 'click'), wanted[result.model === first ? 0 : 1]![i % 6]!['click']));
  t.match(ranks.stats(), { failed: 0, swaps: 1 });
});

await t.test('a shadow says how far it is off, and nothing else changes', async (t) => {
  const [a, b] = [await saved(t, 1), await saved(t, 2)];
  const ranks = await service(t, a);
  const r = request(1);
  for (const [directory, equal] of [[a, true], [b, false]] as const) {
    await ranks.shadow(directory);
    t.same(unordered(await ranks.rank(r), 'click'), (await alone(a, r))['click']);
    while (ranks.stats().shadow.scores === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    const { meanDifference, maxDifference, scores } = ranks.stats().shadow;
    t.equal(scores, 10);
    t.equal(maxDifference === 0, equal);
    t.ok(meanDifference <= maxDifference);
  }
});
