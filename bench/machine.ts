import { execFileSync } from 'node:child_process';
import { cpus, release, totalmem } from 'node:os';
import { doctor } from '../lib/cli/doctor.ts';

/** What a reader needs to judge the figures. */
export function machine() {
  const d = doctor();
  let commit = 'unknown';
  try {
    commit = execFileSync('git', ['describe', '--always', '--dirty'], { cwd: import.meta.dirname, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    // not a clone
  }
  return {
    date: new Date().toISOString(), commit, cpu: cpus()[0]?.model ?? 'unknown', cpus: cpus().length, isa: d.devices.cpu.isa,
    memoryGiB: Math.round(totalmem() / 2 ** 30), kernel: release(), node: d.node, package: d.package, glibc: d.glibc,
  };
}
