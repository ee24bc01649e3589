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
async function child(preset: string, steps: number, policy: string): Promise<MemoryReport> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', '--expose-gc', join(import.meta.dirname, '..', 'children', 'memory.ts'), preset, String(steps), policy]);
  return JSON.parse(stdout) as MemoryReport;
}

export const memoryBench: Bench = {
  name: 'memory',
  about: 'peak memory of a step against the promise of the plan; RSS over 2,000 steps',
  async *run({ quick }) {
    for (const policy of ['none', 'block']) {
      const m = await child('P', 4, policy);
      yield { bench: 'memory', name: `growth of RSS by the steps, recompute ${policy}`, config: 'P', threads: 1, precision: 'fp32', value: (m.peak - m.before) / 1e6, unit: 'MB', against: { name: 'promised MB', value: m.promised / 1e6 },
        ratio: (m.peak - m.before) / m.promised, bar: { is: '<=', value: 1.1 }, note: 'peak RSS of a process of its own less RSS before its first step' };
    }
    const steps = quick ? 500 : 2000;
    const m = await child('tiny', steps, 'none');
    yield { bench: 'memory', name: `RSS, step ${steps} to step ${steps / 10}`, config: 'small', threads: 1, precision: 'fp32', value: m.end / 1e6, unit: 'MB', against: { name: 'early MB', value: m.early / 1e6 }, ratio: m.end / m.early, bar: { is: '<=', value: 1.02 } };
  },
};
