// Keys and values in int8 on an emulated GPU: bytes that are written, and scores from them, as on the CPU.
import t from 'tap';
import './emulated_gpu.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { layoutRows } from '../lib/model/pages_layout.ts';
import { PagedGraphs } from '../lib/model/pages.ts';
import { widened } from '../lib/native/dtype.ts';
import { State } from '../lib/native/plan.ts';
import { Runtime } from '../lib/native/runtime.ts';
import type { Holding } from '../lib/rank/holding.ts';
import { PagedRanker } from '../lib/rank/paged_ranker.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { encodeRequest, type EncodedRequest } from '../lib/schema/encode.ts';
import { RankService } from '../lib/serve/rank_service.ts';
import { appendSafe, banded, encodedTo, models, requests, richSchema, sameBits, tiny } from './helpers.ts';

t.setTimeout(900_000); // the addon with the emulated GPU is built here
const cpu = new Runtime({ threads: 2 });
const device = new Runtime({ threads: 1, device: 'emulated' });
t.teardown(() => { cpu.dispose(); device.dispose(); });

const cachePrecision = 'int8';
type Mode = 'fp32' | 'tf32' | 'bf16' | 'fp16';
const largest = (a: Float32Array): number => a.reduce((m, x) => Math.max(m, Math.abs(x)), 0);
const off = (a: Float32Array, b: Float32Array): number => largest(a.map((x, i) => x - b[i]!)) / largest(b);

/** Logits of a pool that holds nothing else. */
async function coldly(pages: PagedRanker, r: EncodedRequest): Promise<Float32Array> {
  pages.forget();
  const [held] = await pages.hold([r]);
  const logits = await pages.score([held!]);
  held!.release();
  return logits;
}

await t.test('as near to the exact logits as on the CPU, the same bits in a batch as alone', async (t) => {
  const encoded = requests([0, 1, 7, 24, 40], [2, 0, 5]);
  for (const name of ['paper, uid and cls', 'merge 1', 'banded, all queries, flat head', 'transformer']) {
    const model = new ModelDescription(richSchema, models[name]!);
    using here = new State(model.layout.stores());
    using there = new State(model.layout.stores(), device);
    for (const state of [here, there]) model.initialise(state, 4);
    const fromPages = async (ranker: Ranker): Promise<{ exact: number; logits: Float32Array }> => {
      using pages = new PagedRanker(ranker, { bytes: 1_000_000, cachePrecision });
      const logits = await pages.score(await pages.hold(encoded));
      const alone: number[] = [];
      for (const r of encoded) alone.push(...(await coldly(pages, r)));
      t.ok(sameBits(Float32Array.from(alone), logits), `${name}, ${ranker.precision as Mode}: one at a time`);
      return { exact: off(logits, await ranker.score(await ranker.prefill(encoded))), logits };
    };
    using host = new Ranker(model, here, cpu);
    const onCpu = await fromPages(host);
    for (const [precision, bound] of [['fp32', 0.005], ['tf32', 0.008], ['fp16', 0.008], ['bf16', 0.03]] as const) {
      using ranker = new Ranker(model, there, device, { precision });
      const { exact, logits } = await fromPages(ranker);
      t.ok(exact > 0 && exact < bound, `${name}, ${precision}: ${exact}, on the CPU in fp32 ${onCpu.exact}`);
      // A number that lies between two steps of int8 may go either way where the last bit of a key differs.
      if (precision === 'fp32') t.ok(exact < 2 * onCpu.exact + 1e-4 && off(logits, onCpu.logits) < 1e-3, `${name}: ${off(logits, onCpu.logits)} from the CPU's`);
    }
  }
});

/** Words of rows in int8, by their definition (csrc/kernels/quantised_rows.h) in f32. */
function quantised(x: Float32Array, width: number, heads: number): Int32Array {
  const rows = x.length / width;
  const words = heads + width / 4;
  const bytes = new DataView(new ArrayBuffer(4 * rows * words));
  const each = width / heads;
  for (let r = 0; r < rows; ++r)
    for (let g = 0; g < heads; ++g) {
      const head = x.subarray(r * width + g * each, r * width + (g + 1) * each);
      const most = largest(head);
      bytes.setFloat32(4 * (r * words + g), most / 127, true);
      const factor = Math.fround(127 / most);
      head.forEach((v, i) => {
        const scaled = Math.fround(v * factor);
        const near = Math.round(scaled); // of two equally near, the upper one
        bytes.setInt8(4 * (r * words + heads) + g * each + i, near - scaled === 0.5 && near % 2 !== 0 ? near - 1 : near);
      });
    }
  return new Int32Array(bytes.buffer);
}

await t.test('the pool holds the bytes that the definition gives of the keys and values of a prefill', async (t) => {
  const encoded = requests([3, 24, 17], [1]);
  for (const precision of ['fp32', 'bf16', 'fp16'] as const) {
    const config = tiny;
    const model = new ModelDescription(richSchema, config);
    using state = new State(model.layout.stores(), device);
    model.initialise(state, 6);
    using ranker = new Ranker(model, state, device, { precision });
    using pages = new PagedRanker(ranker, { bytes: 100_000, cachePrecision });
    const { paged } = new PagedGraphs(model, precision, pages.cache.pool.pageBytes, cachePrecision);
    const held = await pages.hold(encoded) as Holding[];
    const exact = await ranker.prefill(encoded);
    const places = layoutRows('write', paged, held.map((h) => h.held.item.chain));
    let compared = 0;
    for (const { name, width, dtype } of paged) {
      if (dtype !== 'i32') continue;
      const array = exact.arrays.get(name)!;
      const want = quantised(widened(array.read(), array.dtype), 4 * (width - config.heads), config.heads);
      const got = [...places.get(`write.${name}`)!].flatMap((row) => [...pages.cache.pool.i32.read(row * width, (row + 1) * width)]);
      t.same(got, [...want], `${precision}, ${name}`);
      compared += got.length;
    }
    t.ok(compared > 200, `${compared} words`);
  }
});

await t.test('found, grown, copied on write or new after others have left, the bits are the same', async (t) => {
  for (const [name, config, precision] of [['banded', banded, 'fp32'], ['full', appendSafe, 'bf16'], ['full', appendSafe, 'fp16'], ['newest', tiny, 'tf32']] as const) {
    const model = new ModelDescription(richSchema, config);
    using state = new State(model.layout.stores(), device);
    model.initialise(state, 4);
    using ranker = new Ranker(model, state, device, { precision });
    using probe = new PagedRanker(ranker, { bytes: 100_000, cachePrecision });
    await probe.hold(requests([24], [2]));
    const { pagesUsed } = probe.cache.stats();
    using pages = new PagedRanker(ranker, { bytes: Math.floor(2.5 * pagesUsed) * probe.cache.pool.pageBytes, cachePrecision });
    using cold = new PagedRanker(ranker, { bytes: 100_000, cachePrecision });
    const outcomes: string[] = [];
    for (const length of [9, 13, 22, 24])
      for (const user of [1, 2, 3]) {
        const r = encodedTo({ ...requests([24], [2], user)[0]!, userKey: `u${user}` }, length);
        const want = await coldly(cold, r);
        const [held] = await pages.hold([r]);
        t.ok(sameBits(await pages.score([held!]), want), `${name}, ${precision}: user ${user}, ${length} events, ${held!.outcome}`);
        outcomes.push(held!.outcome);
        held!.release();
        const [again] = await pages.hold([r]);
        t.equal(again!.outcome, 'hit');
        t.ok(sameBits(await pages.score([again!]), want), `${name}, ${precision}: found`);
        again!.release();
      }
    t.ok(outcomes.includes('miss') && (config === tiny || outcomes.includes('partial')), `${name}: ${outcomes.join()}`);
    t.ok(pages.cache.stats().evictions > 0, `${name}: some left`);
  }
});

await t.test('a service on the device keeps keys and values in int8', async (t) => {
  const model = new ModelDescription(richSchema, appendSafe);
  using state = new State(model.layout.stores(), device);
  model.initialise(state, 4);
  using ranker = new Ranker(model, state, device);
  using cold = new PagedRanker(ranker, { bytes: 100_000, cachePrecision });
  await using service = new RankService(new Ranker(model, state, device), 'a', { timeout: 600_000, cacheBytes: 100_000, cachePrecision });
  const history = Array.from({ length: 20 }, (_, i) => ({ item: i + 1, action: i % 3, dwell: 5 * i, time: 1000 + 10 * i }));
  const request = { user: { user_id: 'u', age: 3, likes: [4] }, context: { hour: 1 }, time: 2000, candidates: [{ item: 3, price: 1 }, { item: 9, price: 2 }] };
  for (const [count, outcome] of [[13, 'miss'], [13, 'hit'], [20, 'grown']] as const) {
    const r = { ...request, history: history.slice(0, count) };
    const { index, logits, cache } = await service.rank(r);
    const want = await coldly(cold, encodeRequest(richSchema, r));
    t.same([...index].map((place, i) => logits['click']![i] === want[2 * place]), [true, true], `${count} events`);
    t.equal(cache, outcome);
  }
});
