import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { DuckDBInstance } from '@duckdb/node-api';
import { benchPreset, benchSchema } from '../../lib/bench/presets.ts';
import { TrainSession } from '../../lib/bench/sessions.ts';
import { Dataset } from '../../lib/data/reader.ts';
import { fit } from '../../lib/train/fit.ts';
import type { Bench } from '../context.ts';

/** Requests of `length` events under the column names of a data set. */
async function writeRequests(path: string, count: number, length: number): Promise<void> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
  const connection = await instance.connect();
  const events = (value: string): string => `list_transform(range(${length}), lambda x: (${value}))`;
  await connection.run(`COPY (SELECT (i * 7) % 1000 AS "user.segment", i % 64 AS "user.region", i % 24 AS "context.hour", 1700000000::DOUBLE AS time,
    ${events('(hash(x * 1000003 + i) % 100000)::INTEGER')} AS "history.item", ${events('(hash(x + i) % 4)::INTEGER')} AS "history.action",
    ${events('(1690000000 + x * 3600)::DOUBLE')} AS "history.time", [(hash(i) % 100000)::INTEGER] AS "candidates.item", [(i % 2)::INTEGER] AS "labels.click"
    FROM range(${count}) t(i)) TO '${path}' (FORMAT parquet, ROW_GROUP_SIZE 2048)`);
  connection.closeSync();
  instance.closeSync();
}

/** A timer every millisecond: milliseconds from one call to the next, that one included. */
async function delays(work: () => Promise<void>): Promise<{ readonly p99: number; readonly max: number; readonly samples: number }> {
  const histogram = monitorEventLoopDelay({ resolution: 1 });
  histogram.enable();
  await work();
  histogram.disable();
  return { p99: histogram.percentile(99) / 1e6, max: histogram.max / 1e6, samples: histogram.count };
}

export const delayBench: Bench = {
  name: 'delay',
  about: 'event loop delay while training from a Parquet file, against an idle process',
  async *run({ seconds, threads }) {
    const p = benchPreset('P');
    const folder = mkdtempSync(join(tmpdir(), 'longer-delay-'));
    try {
      const path = join(folder, 'requests.parquet');
      await writeRequests(path, 32 * Math.ceil(12 * seconds), p.model.maxHistory);
      for (const t of threads) for (const niceness of [0, 10]) {
        using session = new TrainSession(p, { threads: t, niceness, epochs: 1, batch: { maxEvents: 1e9, maxRequests: p.requests, maxCandidates: 1e9 }, shuffleWindow: 256 });
        const idle = await delays(() => sleep(1000));
        const stop = new AbortController();
        const until = performance.now() + 1000 * seconds;
        let steps = 0;
        const training = await delays(() => fit(session.trainer, new Dataset(path, benchSchema), undefined, {
          signal: stop.signal,
          onStep: () => { if (++steps >= 3 && performance.now() > until) stop.abort(); },
        }).catch((error: unknown) => { if (!stop.signal.aborted) throw error; }));
        const figure = { bench: 'delay', name: `event loop delay, p99, threads of niceness ${niceness}`, config: `P batch ${p.requests}`, threads: t, precision: 'fp32', value: training.p99, unit: 'ms',
          against: { name: 'idle', value: idle.p99 }, note: `${steps} steps, ${training.samples} samples, the longest ${training.max.toFixed(1)} ms (idle ${idle.max.toFixed(1)})` } as const;
        yield niceness > 0 ? { ...figure, bar: { is: '<=', value: 5 } } : figure;
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
};
