import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Dataset } from '../lib/data/reader.ts';
import { LongerError } from '../lib/errors.ts';
import { flatRequests, writeArrow, writeJsonl, writeParquet } from './data_files.ts';
import { random, richSchema } from './helpers.ts';

const rows = 12;
const rounds = Number(process.env['FUZZ_ROUNDS'] ?? 2000);

type Mutate = (bytes: Buffer, int: (n: number) => number) => Buffer;
/** Bytes that often stand for a length or an offset. */
const telling = [0, 1, 0x7f, 0x80, 0xff];
const mutations: readonly Mutate[] = [
  (b, int) => { for (let n = 1 + int(3); n > 0; --n) b[int(b.length)]! ^= 1 << int(8); return b; },
  (b, int) => { b[int(b.length)] = telling[int(telling.length)]!; return b; },
  (b, int) => { b.writeUInt32LE([0, 1, 0x7fffffff, 0x80000000, 0xffffffff][int(5)]!, int(b.length - 4)); return b; },
  (b, int) => b.subarray(0, int(b.length)),
  (b, int) => { const at = int(b.length); return Buffer.concat([b.subarray(0, at), Buffer.from([int(256)]), b.subarray(at)]); },
  (b, int) => { const [at, n] = [int(b.length), 1 + int(16)]; return Buffer.concat([b.subarray(0, at), b.subarray(at + n)]); },
  (b, int) => { const [from, to, n] = [int(b.length), int(b.length), 1 + int(32)]; b.copy(b, to, from, Math.min(b.length, from + n)); return b; },
  // The tail is where Parquet and Arrow say what is where.
  (b, int) => { b[b.length - 1 - int(Math.min(b.length, 1200))]! ^= 1 << int(8); return b; },
];

/** JSON that is well formed and wrong: a value is replaced by one of another type, or by another value of the file. */
function wrongType(bytes: Buffer, int: (n: number) => number): Buffer {
  const lines = bytes.toString().trimEnd().split('\n').map((line) => JSON.parse(line) as unknown);
  const places: [Record<string, unknown>, string][] = [];
  const walk = (node: unknown): void => {
    if (typeof node !== 'object' || node === null) return;
    for (const [key, value] of Object.entries(node)) {
      places.push([node as Record<string, unknown>, key]);
      walk(value);
    }
  };
  lines.forEach(walk);
  const [node, key] = places[int(places.length)]!;
  const [other, otherKey] = places[int(places.length)]!;
  const values: unknown[] = [null, '', 'x', -1, 1e308, 0.5, 2 ** 53, true, [], {}, [null], [[1]], '__proto__'];
  const choice = int(values.length + 3);
  const copied: unknown = JSON.parse(JSON.stringify(other[otherKey] ?? null));
  node[key] = choice < values.length ? values[choice] : copied; // lists swapped
  return Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
}

for (const kind of (process.env['FUZZ_KINDS']?.split(',') ?? ['jsonl', 'arrow', 'arrows', 'parquet']))
  await t.test(`${rounds} spoiled files of .${kind}: an error of ours, or every row`, async (t) => {
    const dir = t.testdir();
    const path = join(dir, `x.${kind}`);
    const flat = flatRequests(rows, 5);
    if (kind === 'jsonl') writeJsonl(path, flat);
    else if (kind === 'parquet') await writeParquet(path, flat);
    else writeArrow(path, flat, kind === 'arrow' ? 'file' : 'stream', 5);
    const whole = readFileSync(path);
    const next = random(99);
    const int = (n: number): number => Math.floor(next() * n);
    const count = { refused: 0, read: 0, left: 0 };
    let slowest = 0;
    for (let round = 0; round < rounds; ++round) {
      const mutate = kind === 'jsonl' && round % 2 === 0 ? wrongType : mutations[int(mutations.length)]!;
      writeFileSync(path, mutate(Buffer.from(whole), int));
      const data = new Dataset(path, richSchema, { skipBad: true });
      const from = performance.now();
      let good = 0;
      try {
        for await (const request of data) {
          ++good;
          if (request.eventTime.length !== request.events || request.labels.length !== 2 * request.candidates) throw new Error('rows do not fit together');
          if (request.event.ids.get('item')!.some((x) => x < 0 || x >= 50)) throw new Error('an id outside of its table');
        }
        const lines = kind === 'jsonl' ? readFileSync(path).toString('latin1').split('\n').filter((l) => l.trim() !== '').length : rows;
        if (good + data.badCount !== lines) {
          t.fail(`round ${round}: ${good} rows and ${data.badCount} bad of ${lines}`);
          writeFileSync(join('/tmp', `fuzz-${kind}-${round}`), readFileSync(path));
        }
        if (data.badCount > 0) ++count.left;
        else ++count.read;
      } catch (error) {
        if (!(error instanceof LongerError && error.code === 'ERR_DATA')) t.fail(`round ${round}: ${error instanceof Error ? error.stack : String(error)}`);
        ++count.refused;
      }
      slowest = Math.max(slowest, performance.now() - from);
    }
    t.ok(slowest < 5000, `slowest ${slowest.toFixed(0)} ms`);
    t.ok(count.refused + count.left > rounds / 10, JSON.stringify(count));
    t.comment(`${kind}: ${JSON.stringify(count)}, slowest ${slowest.toFixed(0)} ms`);
  });
