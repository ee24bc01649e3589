import { join } from 'node:path';
import t from 'tap';
import { batches } from '../lib/data/batches.ts';
import { Dataset } from '../lib/data/reader.ts';
import type { EncodedRequest } from '../lib/schema/encode.ts';
import { flatRequests, writeArrow, writeJsonl, writeParquet } from './data_files.ts';
import { requests, richSchema } from './helpers.ts';

/** Turns of the event loop while work is done. */
async function turnsDuring(work: () => Promise<void>): Promise<number> {
  let turns = 0;
  let over = false;
  const count = (): void => {
    turns++;
    if (!over) setImmediate(count);
  };
  setImmediate(count);
  await work();
  over = true;
  return turns;
}

let now = 1e6;
/** A clock by which every look at it takes 2 ms: as if each row were long work. */
function slowClock(t: { readonly teardown: (f: () => void) => void }): void {
  const real = Object.getOwnPropertyDescriptor(performance, 'now');
  Object.defineProperty(performance, 'now', { configurable: true, value: () => (now += 2) });
  t.teardown(() => {
    if (real) Object.defineProperty(performance, 'now', real);
    else Reflect.deleteProperty(performance, 'now');
  });
}

await t.test('the event loop turns between the rows of a file, not only between its parts', async (t) => {
  const dir = t.testdir();
  const flat = flatRequests(300);
  writeJsonl(join(dir, 'x.jsonl'), flat);
  writeArrow(join(dir, 'x.arrow'), flat, 'file');
  await writeParquet(join(dir, 'x.parquet'), flat);
  slowClock(t);
  for (const name of ['x.jsonl', 'x.arrow', 'x.parquet']) {
    const turns = await turnsDuring(async () => { for await (const r of new Dataset(join(dir, name), richSchema)) t.ok(r.events >= 0); });
    t.ok(turns >= 300, `${name}: ${turns} turns in 300 rows`);
  }
});

await t.test('the event loop turns while a batch is put together from what is in memory', async (t) => {
  const encoded = requests(Array.from({ length: 200 }, (_, i) => i % 7), [1], 3);
  const options = { maxEvents: 1e6, maxRequests: 100, maxCandidates: 1e6, maxHistory: 24 };
  const packed = async (): Promise<EncodedRequest[][]> => {
    const all: EncodedRequest[][] = [];
    for await (const b of batches(richSchema, encoded, options)) all.push([...b.encoded]);
    return all;
  };
  const before = await packed();
  slowClock(t);
  let after: EncodedRequest[][] = [];
  const turns = await turnsDuring(async () => { after = await packed(); });
  t.ok(turns >= 200, `${turns} turns in 200 requests`);
  t.equal(after.length, 2);
  t.strictSame(after.map((b) => b.map((r) => r.id)), before.map((b) => b.map((r) => r.id)), 'the same batches');
});

await t.test('sizes are those of the rows, and a file that is none is refused', async (t) => {
  const dir = t.testdir({ 'broken.parquet': 'PAR1 no' });
  const flat = flatRequests(2500);
  writeJsonl(join(dir, 'x.jsonl'), flat);
  await writeParquet(join(dir, 'x.parquet'), flat);
  const wanted = flat.map((f) => ({ events: (f['history.time'] as unknown[]).length, candidates: (f['candidates.item'] as unknown[]).length }));
  for (const name of ['x.jsonl', 'x.parquet']) {
    const sizes: unknown[] = [];
    for await (const { events, candidates } of new Dataset(join(dir, name), richSchema).sizes()) sizes.push({ events, candidates });
    t.strictSame(sizes, wanted, name);
  }
  const first = async (name: string): Promise<unknown> => new Dataset(join(dir, name), richSchema).sizes().next();
  await t.rejects(first('broken.parquet'), { code: 'ERR_DATA' });
  await t.rejects(first('none.parquet'), { code: 'ERR_DATA' });
});
