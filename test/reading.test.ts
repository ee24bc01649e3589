import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { encodedRows } from '../lib/data/encoded_rows.ts';
import { land, newFlight } from '../lib/data/in_flight.ts';
import { Dataset } from '../lib/data/reader.ts';
import { LongerError } from '../lib/errors.ts';
import { asRequest, type FlatRequest, flatRequests, writeArrow, writeJsonl, writeParquet } from './data_files.ts';
import { richSchema } from './helpers.ts';

const sources = join(import.meta.dirname, '..', 'lib');
const plain = (row: unknown): unknown => (row instanceof LongerError ? { code: row.code, message: row.message, place: row.place, remedy: row.remedy } : row);

await t.test('rows and errors are those of reading without a thread', async (t) => {
  const dir = t.testdir();
  const spoil: readonly ((f: Record<string, unknown>) => void)[] = [
    (f) => { f['user.age'] = null; }, (f) => { f['time'] = null; }, (f) => { f['candidates.item'] = (f['candidates.item'] as number[]).map(() => 50); },
    (f) => { f['history.action'] = [...(f['history.action'] as number[]), 1]; }, (f) => { f['labels.click'] = [2]; },
  ];
  const flat = flatRequests(700, 3).map((f, i): FlatRequest => {
    const copy = { ...f };
    if (i % 50 === 7) spoil[(i / 50 | 0) % spoil.length]!(copy);
    return copy;
  });
  writeJsonl(join(dir, 'x.jsonl'), flat);
  writeArrow(join(dir, 'x.arrow'), flat, 'file');
  await writeParquet(join(dir, 'x.parquet'), flat);
  for (const name of ['x.jsonl', 'x.arrow', 'x.parquet']) {
    const [here, there]: [unknown[], unknown[]] = [[], []];
    for await (const { row, count } of encodedRows(join(dir, name), richSchema)) for (let i = 0; i < count; ++i) here.push(plain(row));
    const data = new Dataset(join(dir, name), richSchema, { skipBad: true });
    for await (const row of data.rows()) there.push(plain(row));
    t.equal(data.badCount, 14, name);
    t.strictSame(there, here, name);
  }
});

await t.test('the thread reads a few parts ahead and no further', async (t) => {
  const path = join(t.testdir(), 'many.jsonl');
  const line = `${JSON.stringify(asRequest(flatRequests(6)[5]!))}\n`;
  writeFileSync(path, line.repeat(80_000));
  const bytesRead = (): number => Number(/rchar: (\d+)/.exec(readFileSync('/proc/self/io', 'utf8'))![1]);
  const rows = new Dataset(path, richSchema)[Symbol.asyncIterator]();
  await rows.next();
  const before = bytesRead();
  await sleep(1000);
  const grown = bytesRead() - before;
  t.ok(grown < 4e6 && line.length * 80_000 > 2e7, `${grown} of ${line.length * 80_000} bytes`);
  await rows.return(undefined);
  // Several files at once, one of them left early.
  const counts = await Promise.all([1, 2, 3].map(async (stop) => {
    let n = 0;
    for await (const r of new Dataset(path, richSchema)) {
      n += r.candidates > 0 ? 1 : 0;
      if (n === stop * 1000) break;
    }
    return n;
  }));
  t.strictSame(counts, [1000, 2000, 3000]);
});

await t.test('work of DuckDB in flight is waited for before its thread ends', async (t) => {
  const flight = newFlight();
  const file = (name: string): string => JSON.stringify(join(sources, 'data', name));
  const code = `const { parentPort, workerData } = require('node:worker_threads');
    import(${JSON.stringify(import.meta.resolve('tsx/esm/api'))}).then(async ({ register }) => {
      register();
      const { countFlights, inFlight } = await import(${file('in_flight.ts')});
      const { DuckDBInstance } = await import(${JSON.stringify(import.meta.resolve('@duckdb/node-api'))});
      countFlights(workerData.flight);
      const connection = await (await DuckDBInstance.create(':memory:', { threads: '1' })).connect();
      parentPort.postMessage('begins');
      for (;;) await inFlight(() => connection.run('SELECT sum(sqrt(range)) FROM range(40000000)'));
    });`;
  const worker = new Worker(code, { eval: true, workerData: { flight } });
  await once(worker, 'message');
  await sleep(50);
  t.equal(Atomics.load(flight, 0), 1, 'in flight');
  land(flight);
  t.equal(Atomics.load(flight, 0), 0, 'landed');
  await sleep(50);
  t.equal(Atomics.load(flight, 0), 0, 'nothing begins any more');
  await worker.terminate(); // with work in flight this ends the process
});

t.test('a process that stops reading ends by itself, or with its own code', (t) => {
  const dir = t.testdir();
  const path = join(dir, 'x.jsonl');
  writeJsonl(path, flatRequests(3000));
  const script = join(dir, 'script.ts');
  writeFileSync(script, `import { Dataset } from ${JSON.stringify(join(sources, 'data', 'reader.ts'))};
    import { richSchema } from ${JSON.stringify(join(import.meta.dirname, 'helpers.ts'))};
    for await (const row of new Dataset(process.argv[2]!, richSchema)) {
      if (process.argv[3] === 'break') break;
      if (row.id === 'r7') process.exit(3);
    }`);
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => name !== 'NODE_OPTIONS')); // tap's own loader
  for (const [how, code] of [['break', 0], ['exit', 3]] as const) {
    const run = spawnSync(process.execPath, ['--import', 'tsx', script, path, how], { encoding: 'utf8', env, timeout: 60_000, cwd: join(sources, '..') });
    t.equal(run.status, code, `${how}: ${run.stderr}`);
  }
  t.end();
});
