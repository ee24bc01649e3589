import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Bench } from '../context.ts';

export interface MemoryReport {
  readonly promised: number;
  /** RSS before the first step, its highest value during the steps, after the first tenth and at the end; bytes. */
  readonly before: number;
  readonly peak: number;
  readonly early: number;
  readonly end: number;
  readonly steps: number;
}

/** A process of its own, so that its peak is that of the steps. */
async function child(preset: string, steps: number, policy: string, ragged = 0): Promise<MemoryReport> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', '--expose-gc', join(import.meta.dirname, '..', 'children', 'memory.ts'), preset, String(steps), policy, String(ragged)]);
  return JSON.parse(stdout) as MemoryReport;
}

export const memoryBench: Bench = {
  name: 'memory',
  about: 'peak memory of a step against the promise of the plan',
  async *run() {
    for (const policy of ['none', 'block']) {
      const m = await child('P', 4, policy);
      yield { bench: 'memory', name: `growth of RSS by the steps, recompute ${policy}`, config: 'P', threads: 1, precision: 'fp32', value: (m.peak - m.before) / 1e6, unit: 'MB', against: { name: 'promised MB', value: m.promised / 1e6 },
        ratio: (m.peak - m.before) / m.promised, bar: { is: '<=', value: 1.1 }, note: 'peak RSS of a process of its own less RSS before its first step' };
    }
  },
};

export const rssBench: Bench = {
  name: 'rss',
  about: 'RSS over 2,000 steps of 4 requests of ragged lengths: small, S, M',
  async *run({ quick }) {
    const steps = quick ? 500 : 2000;
    for (const name of quick ? ['tiny'] : ['tiny', 'S', 'M']) {
      const m = await child(name, steps, 'none', 4);
      yield { bench: 'rss', name: `RSS, step ${steps} to step ${steps / 10}`, config: `${name} batch 4`, threads: 1, precision: 'fp32', value: m.end / 1e6, unit: 'MB', against: { name: 'early MB', value: m.early / 1e6 }, ratio: m.end / m.early,
        bar: { is: '<=', value: 1.02 }, note: `peak ${(m.peak / 1e6).toFixed(0)} MB` };
    }
  },
};
