import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { batches } from '../lib/data/batches.ts';
import { packBatch } from '../lib/data/batch.ts';
import { Dataset } from '../lib/data/reader.ts';
import { LongerError } from '../lib/errors.ts';
import type { EncodedRequest } from '../lib/schema/encode.ts';
import { asRequest, flatRequests, type FlatRequest, writeArrow, writeJsonl, writeParquet } from './data_files.ts';
import { richSchema } from './helpers.ts';

async function read(path: string, skipBad = false): Promise<{ rows: EncodedRequest[]; data: Dataset }> {
  const data = new Dataset(path, richSchema, { skipBad });
  const rows: EncodedRequest[] = [];
  for await (const r of data) rows.push(r);
  return { rows, data };
}

const kinds = ['jsonl', 'parquet', 'arrow', 'arrows'] as const;
async function write(path: string, flat: readonly FlatRequest[]): Promise<string> {
  if (path.endsWith('.jsonl')) writeJsonl(path, flat);
  else if (path.endsWith('.parquet')) await writeParquet(path, flat);
  else writeArrow(path, flat, path.endsWith('.arrow') ? 'file' : 'stream');
  return path;
}

await t.test('every kind of file gives the same requests', async (t) => {
  const dir = t.testdir();
  const flat = flatRequests(2500);
  const [first, ...others] = await Promise.all(kinds.map(async (kind) => read(await write(join(dir, `x.${kind}`), flat))));
  t.equal(first!.rows.length, flat.length);
  const wanted = packBatch(richSchema, first!.rows, { maxHistory: 100 });
  for (const [i, { rows }] of others.entries()) {
    const got = packBatch(richSchema, rows, { maxHistory: 100 });
    t.strictSame(got.columns, wanted.columns, String(kinds[i + 1]));
    t.strictSame(rows.map((r) => [r.id, r.userKey]), first!.rows.map((r) => [r.id, r.userKey]));
  }
  t.equal(await new Dataset(join(dir, 'x.parquet'), richSchema).count(), flat.length);
});

/** What is wrong, in a flat request, and what the message has to say. */
const faults: readonly (readonly [string, (f: Record<string, unknown>) => void, RegExp])[] = [
  ['missing id', (f) => { f['history.item'] = [1, null]; f['history.action'] = [0, 0]; f['history.dwell'] = [1, 1]; f['history.time'] = [1, 2]; }, /history\[1\]\.item: the id is missing/],
  ['NaN', (f) => { f['user.age'] = null; }, /user\.age: the number is missing/],
  ['too large for a float', (f) => { f['user.age'] = 1e300; }, /user\.age: .*too large/],
  ['time going backwards', (f) => { f['history.item'] = [1, 2]; f['history.action'] = [0, 0]; f['history.dwell'] = [1, 1]; f['history.time'] = [9, 8]; }, /history\[1\]\.time: time goes backwards: 8 after 9/],
  ['event after its request', (f) => { f['history.item'] = [1]; f['history.action'] = [0]; f['history.dwell'] = [1]; f['history.time'] = [5e9]; }, /history\[0\]\.time: the event is later/],
  ['no time', (f) => { f['time'] = null; }, /time: the time is missing/],
  ['a label of 2', (f) => { f['labels.click'] = (f['labels.click'] as number[]).map(() => 2); }, /labels\.click\[0\]: a label is 0 or 1, got 2/],
  ['lengths that differ', (f) => { f['history.action'] = [...(f['history.action'] as number[]), 1]; }, /history\.action: the column has \d+ rows, the others/],
  ['labels for other candidates', (f) => { f['labels.buy'] = [1, 0, 1, 0, 1]; }, /labels\.buy: 5 labels for \d candidates/],
  ['an id out of range', (f) => { f['candidates.item'] = (f['candidates.item'] as number[]).map(() => 50); }, /candidates\[0\]\.item: expected an id from 0 to 49, got 50/],
];

await t.test('a bad row is named by file, row and feature, and can be left out', async (t) => {
  const dir = t.testdir();
  for (const kind of kinds) {
    for (const [i, [name, spoil, message]] of faults.entries()) {
      const flat = flatRequests(40, i + 1).map((f) => ({ ...f }));
      for (const at of [17, 30]) spoil(flat[at]!);
      const path = await write(join(dir, `${i}.${kind}`), flat);
      const where = kind === 'jsonl' ? ':18: ' : ': row 17: ';
      const error = await read(path).then(() => undefined, (e: unknown) => e);
      t.ok(error instanceof LongerError && error.code === 'ERR_DATA', `${kind}, ${name}: ${String(error)}`);
      t.ok((error as LongerError).message.startsWith(`${path}${where}`), String(error));
      t.match((error as LongerError).message, message);
      const { rows, data } = await read(path, true);
      t.strictSame(rows.map((r) => r.id), flat.map((f) => f['id']).filter((_, row) => row !== 17 && row !== 30));
      t.equal(data.badCount, 2);
      t.equal(data.bad[0], (error as LongerError).message);
    }
  }
});

await t.test('what no type would allow is an error in JSON lines', async (t) => {
  const path = join(t.testdir(), 'x.jsonl');
  const good = asRequest(flatRequests(1)[0]!);
  const cases: [unknown, RegExp][] = [
    [[], /expected a request, got a list/], [7, /expected a request, got 7/], [{ ...good, history: 'abc' }, /history: expected a list of objects/],
    [{ ...good, history: { item: 'abc', action: 'abc', dwell: 'abc', time: 'abc' } }, /history\.item: expected a list, got "abc"/],
    [{ ...good, history: [3] }, /history\[0\]: expected an object, got 3/], [{ ...good, history: [{ item: 1, action: 0, dwell: '', time: 1 }] }, /history\[0\]\.dwell: expected a number, got ""/],
    [{ ...good, history: [{ item: 1, action: 0, dwell: 1, time: null }] }, /history\[0\]\.time: the time is missing/], [{ ...good, time: '5' }, /time: expected seconds, got "5"/],
    [{ ...good, user: [] }, /user: expected an object/], [{ ...good, labels: [1] }, /labels: expected an object/], [{ ...good, labels: { clik: [1] } }, /labels\.clik: there is no task 'clik'; did you mean 'click'/],
    [{ ...good, user: { ...(good['user'] as object), likes: {} } }, /user\.likes: expected a list of ids/], [{ ...good, user: { ...(good['user'] as object), user_id: 2 ** 60 } }, /user\.user_id: expected an id/],
  ];
  for (const [row, message] of cases) {
    writeFileSync(path, `${JSON.stringify(row)}\n`);
    await t.rejects(read(path), { code: 'ERR_DATA', message });
  }
  writeFileSync(path, Buffer.from([0x7b, 0xff, 0x7d, 0x0a]));
  await t.rejects(read(path), { code: 'ERR_DATA', message: /not valid UTF-8/ });
});

await t.test('files that are missing, foreign, cut or lack a column', async (t) => {
  const dir = t.testdir();
  await t.rejects(read(join(dir, 'none.parquet')), { code: 'ERR_DATA', place: join(dir, 'none.parquet') });
  t.throws(() => new Dataset('x.json', richSchema), { code: 'ERR_DATA', message: /did you mean '\.jsonl'/ });
  const flat = flatRequests(60);
  for (const kind of kinds) {
    const path = await write(join(dir, `cut.${kind}`), flat);
    const bytes = readFileSync(path);
    for (const share of [0, 0.01, 0.3, 0.7, 0.999]) {
      writeFileSync(path, bytes.subarray(0, Math.floor(bytes.length * share)));
      if (kind === 'jsonl' && share === 0) continue; // no line, no request
      await t.rejects(read(path), { code: 'ERR_DATA' }, `${kind} cut to ${share}`);
    }
    if (kind === 'jsonl') continue;
    if (kind === 'parquet') await writeParquet(path, flat, `SELECT * EXCLUDE ("history.item"), "history.item" AS "history.itm" FROM requests`);
    else writeArrow(path, flat.map(({ 'history.item': item, ...rest }) => ({ ...rest, 'history.itm': item })), kind === 'arrow' ? 'file' : 'stream');
    await t.rejects(read(path), { code: 'ERR_DATA', message: /the column 'history\.item' is missing; did you mean 'history\.itm'/ });
  }
});

/** What a full collection leaves. */
function heldBytes(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

await t.test('many lines pass through bounded memory', async (t) => {
  const path = join(t.testdir(), 'many.jsonl');
  const line = `${JSON.stringify(asRequest(flatRequests(1)[0]!))}\n`;
  writeFileSync(path, line.repeat(60_000));
  let before = 0;
  let after = 0;
  let n = 0;
  for await (const request of new Dataset(path, richSchema)) {
    n += request.candidates > 0 ? 1 : 0;
    if (n === 10_000) before = heldBytes();
    if (n === 59_000) after = heldBytes();
  }
  t.equal(n, 60_000);
  const grown = (after - before) / 2 ** 20;
  // Buffers of the file come and go a few MiB at a time; the lines alone, kept, would be 15.
  t.ok(grown < 12, `grew by ${grown.toFixed(0)} MiB over ${((line.length * 50_000) / 2 ** 20).toFixed(0)} MiB of lines`);
});

await t.test('leaving early closes the source', async (t) => {
  let closed = false;
  async function* source(): AsyncGenerator<EncodedRequest> {
    try {
      for (;;) yield first!;
    } finally {
      closed = true;
    }
  }
  const path = join(t.testdir(), 'x.jsonl');
  writeJsonl(path, flatRequests(1));
  const [first] = (await read(path)).rows;
  for await (const batch of batches(richSchema, source(), { maxHistory: 10, maxEvents: 100, maxRequests: 4, maxCandidates: 100 })) if (batch.requests > 0) break;
  t.ok(closed);
});
