import t from 'tap';
import { benchPreset, benchSchema } from '../lib/bench/presets.ts';
import { presets } from '../lib/model/config.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { defaultPageBytes, PagedGraphs } from '../lib/model/pages.ts';
import { cacheRows, pagesOf, rowsOf } from '../lib/model/pages_layout.ts';
import { PagePool } from '../lib/rank/page_pool.ts';
import { PagedCache } from '../lib/rank/paged_cache.ts';

await t.test('pages: taken, shared, copied, given back', (t) => {
  const pool = new PagePool(1000, 64);
  t.equal(pool.pages, 15);
  const [a, b] = [pool.take(), pool.take()];
  t.equal(b, a + 1, 'neighbours lie side by side');
  pool.f32.write(new Float32Array(16).fill(7), a * 16);
  pool.copy([[a, b]]);
  t.same([...pool.f32.read(b * 16, (b + 1) * 16)], Array(16).fill(7));
  t.equal(pool.f32.read((b + 1) * 16)[0], 0);
  pool.share(a);
  pool.release(a);
  t.equal(pool.holders(a), 1);
  t.equal(pool.free, 13);
  pool.release(a);
  t.equal(pool.free, 14);
  t.throws(() => { pool.release(a); }, /more often/);
  while (pool.free > 0) pool.take();
  t.throws(() => pool.take(), { code: 'ERR_MEMORY' });
  t.throws(() => new PagePool(63, 64), { code: 'ERR_CONFIG' });
  t.throws(() => new PagePool(1000, 6), { code: 'ERR_CONFIG' });
  t.throws(() => new PagePool(2 ** 52, 64), { code: 'ERR_MEMORY' });
  for (const ttl of [0, -1, NaN]) t.throws(() => new PagedCache({ bytes: 640, pageBytes: 64, ttl }), { code: 'ERR_CONFIG', place: 'ttl' });
  t.end();
});

await t.test('keys and values of a user take what spec 6 says, and at most 5 % more, wherever the window begins', (t) => {
  const append = { alignment: 'oldest', position: 'ordinal' } as const;
  const configs = { paper: presets.longer(), X: benchPreset('X').model, P: benchPreset('P').model, 'X, banded': { ...benchPreset('X').model, ...append, window: 'banded' as const } };
  for (const [name, config] of Object.entries(configs)) {
    const model = new ModelDescription(benchSchema, config);
    for (const precision of ['fp32', 'bf16'] as const) {
      const graphs = new PagedGraphs(model, precision, defaultPageBytes(model, precision));
      const { kvBytesPerUser } = model.cost(config.maxHistory, precision);
      const count = config.maxHistory / config.merge;
      for (let first = 0; first < 130; ++first) {
        // Bands that are not yet whole hold less.
        const rows = cacheRows(config, { first: config.alignment === 'oldest' ? first : 0, count });
        const kv = graphs.paged.filter((e) => /^[kv]/.test(e.name));
        const exact = kv.reduce((n, e) => n + rowsOf(rows, e).count * (graphs.pageBytes / e.pageRows), 0);
        const taken = kv.reduce((n, e) => n + pagesOf(rowsOf(rows, e), e.pageRows) * graphs.pageBytes, 0);
        if (config.window === 'full') t.equal(exact, kvBytesPerUser);
        t.ok(taken >= exact && taken <= 1.05 * kvBytesPerUser, `${name}, ${precision}, from group ${first}: ${taken} bytes for ${exact}`);
      }
    }
  }
  t.end();
});
