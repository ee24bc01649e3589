/**
 * The figures of a GPU, one JSON object a line as they are measured: {"begins"}, {"record"}, {"failed"}. `scripts/gpu/bench.cjs` starts it, keeps
 * what it prints and stops it when its time is up. Arguments: device, gpu_bench program or '', Python or why there is none, [tiny].
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { BenchRecord } from '../record.ts';
import type { GpuContext } from './context.ts';
import { kernelFigures } from './kernels.ts';
import { otherModelFigures, trainingP, trainingX } from './models.ts';
import { Torch } from './torch.ts';
import type { DeviceName } from '../../lib/native/device.ts';

const [device = 'cuda:0', program = '', python = '', withoutTorch = '', size] = process.argv.slice(2);
const tiny = size === 'tiny';

const kernel: GpuContext['kernel'] = async (name) => {
  if (program === '') throw new Error('the native program is built only where nvcc, CMake and g++ are');
  const { stdout } = await promisify(execFile)(program, [name, ...(tiny ? ['tiny'] : [])]);
  return JSON.parse(stdout) as Awaited<ReturnType<GpuContext['kernel']>>;
};
let copied: Promise<number> | undefined;
const context: GpuContext = {
  device: device as DeviceName, tiny, kernel, torch: python === '' ? withoutTorch : new Torch(python),
  copyRate: () => (copied ??= kernel('copy').then(({ seconds, bytes }) => bytes / seconds)),
};

const tell = (line: object): void => { process.stdout.write(`${JSON.stringify(line)}\n`); };

// In the order of their weight: what is not reached in time is what matters least.
const figures = [kernelFigures[0]!, trainingP, ...kernelFigures.slice(1, 3), otherModelFigures[0]!, trainingX, ...kernelFigures.slice(3), otherModelFigures[1]!];
tell({ figures: figures.map((f) => f.name) });
for (const figure of figures) {
  tell({ begins: figure.name });
  try {
    for await (const found of figure.run(context)) tell({ record: { bench: 'gpu', threads: 1, ...found } satisfies BenchRecord });
  } catch (error) {
    tell({ failed: figure.name, why: error instanceof Error ? error.message : String(error) });
  }
}
