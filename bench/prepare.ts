/**
 * `npm run bench:prepare -- --events 20000000 --memory 4GB`: time, RSS and disk of `longer prepare` on a made log, in a folder that is
 * removed afterwards. docs/data.md has its figures.
 */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { DuckDBInstance } from '@duckdb/node-api';
import { prepare, type PrepareStats } from '../lib/data/prepare.ts';

const { values: o } = parseArgs({
  options: {
    events: { type: 'string', default: '1000000' }, users: { type: 'string', default: '200000' }, items: { type: 'string', default: '100000' }, seed: { type: 'string', default: '1' },
    memory: { type: 'string', default: '4GB' }, threads: { type: 'string', default: '2' }, history: { type: 'string', default: '2000' }, folder: { type: 'string' },
  },
});

interface Run {
  readonly seconds: number;
  readonly rss: number;
  readonly stats: PrepareStats;
}

/** A log in which few users and items have most of the events; by hashes of the row and the seed alone. */
async function writeLog(path: string): Promise<void> {
  const instance = await DuckDBInstance.create(':memory:', { threads: o.threads });
  const connection = await instance.connect();
  const uniform = (stream: number): string => `(hash(i * 16 + ${stream} + ${o.seed} * 1000003) / 18446744073709551616.0)`;
  await connection.run(`COPY (SELECT 'u' || floor(${o.users} * pow(${uniform(1)}, 2))::INTEGER AS user, 'i' || floor(${o.items} * pow(${uniform(2)}, 3))::INTEGER AS item,
    1600000000 + floor(3e7 * ${uniform(3)})::INTEGER AS time, 1 + floor(5 * ${uniform(4)})::INTEGER AS value FROM range(${o.events}) t(i)) TO '${path}' (HEADER)`);
  connection.closeSync();
  instance.closeSync();
}

const bytesOf = (folder: string): number => readdirSync(folder, { withFileTypes: true, recursive: true }).reduce((n, f) => n + (f.isFile() ? (statSync(join(f.parentPath, f.name), { throwIfNoEntry: false })?.size ?? 0) : 0), 0);

async function run(folder: string): Promise<Run> {
  const from = performance.now();
  const stats = await prepare({
    events: join(folder, 'log.csv'), output: join(folder, 'data'), columns: { user: 'user', item: 'item', time: 'time', value: 'value' }, labels: { label: { kind: 'value', atLeast: 4 } },
    split: { kind: 'time', fractions: [0.8, 0.1, 0.1] }, historyLength: Number(o.history), memoryLimit: o.memory, threads: Number(o.threads),
  });
  return { seconds: (performance.now() - from) / 1000, rss: process.resourceUsage().maxRSS * 1024, stats };
}

if (process.send && o.folder !== undefined) {
  process.send(await run(o.folder));
  process.disconnect();
} else {
  const folder = mkdtempSync(join(o.folder ?? tmpdir(), 'longer-prepare-'));
  try {
    await writeLog(join(folder, 'log.csv'));
    const log = statSync(join(folder, 'log.csv')).size;
    const child = fork(import.meta.filename, [...process.argv.slice(2), '--folder', folder]); // a process of its own, so that its peak is that of `prepare`
    let disk = 0;
    const watch = setInterval(() => { disk = Math.max(disk, bytesOf(folder) - log); }, 1000);
    let result: Run | undefined;
    child.on('message', (message) => { result = message as Run; });
    await once(child, 'exit').finally(() => { clearInterval(watch); });
    if (!result) throw new Error('prepare failed, as said above');
    const { seconds, rss, stats } = result;
    const mebibytes = (n: number): number => Math.round(n / 2 ** 20);
    console.log(JSON.stringify({ events: stats.events, logMiB: mebibytes(log), seconds: Math.round(seconds), peakRssMiB: mebibytes(rss), memoryLimit: o.memory, threads: Number(o.threads), peakDiskMiB: mebibytes(disk), datasetMiB: mebibytes(bytesOf(join(folder, 'data'))), parts: stats.parts }, null, 1));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
