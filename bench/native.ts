import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const root = join(import.meta.dirname, '..');
const folder = join(root, 'build', 'bench');

/** Builds bench/native with CMake (LONGER_BENCH=ON) in a folder of its own. The package never holds any of it. */
export function buildNative(): void {
  const run = (args: readonly string[]): void => {
    const r = spawnSync('cmake', args, { cwd: root, encoding: 'utf8' });
    if (r.status !== 0) throw new Error(`cmake ${args.join(' ')} failed:\n${r.stdout}${r.stderr}`);
  };
  run(['-S', root, '-B', folder, '-DLONGER_BENCH=ON', '-DLONGER_CUDA=OFF', '-DCMAKE_BUILD_TYPE=Release']);
  run(['--build', folder, '-j', '2']);
}

/** Runs a measuring program; each line that it prints is JSON. OpenMP (oneDNN's threads) gets the same number of threads. */
export async function native<T>(program: string, threads: number, options: readonly string[] = []): Promise<T[]> {
  const path = join(folder, program);
  if (!existsSync(path)) buildNative();
  const { stdout } = await promisify(execFile)(path, ['--threads', String(threads), ...options], {
    env: { ...process.env, OMP_NUM_THREADS: String(threads) }, maxBuffer: 1 << 24,
  });
  return stdout.trim().split('\n').filter((l) => l.startsWith('{')).map((l) => JSON.parse(l) as T);
}

export interface Roofs {
  readonly isa: string;
  readonly f32: number;
  /** 0 where the CPU has no bf16 multiply-add. */
  readonly bf16: number;
  /** GB/s read plus written; 0 in a quick look. */
  readonly copy: number;
  /** GB/s of reading 10 MiB again and again. */
  readonly read: number;
}

/** The machine's roofs now, GFLOP/s and GB/s. */
export async function roofs(threads: number, seconds: number, quick: boolean): Promise<Roofs> {
  return (await native<Roofs>('roofs_bench', threads, ['--seconds', String(seconds), ...(quick ? ['--quick'] : [])]))[0]!;
}
