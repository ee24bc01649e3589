import { Command } from 'commander';
import { loadNative } from '../native/load.ts';
import type { DeviceReport } from '../native/types.ts';

export interface DoctorReport {
  readonly package: string;
  readonly node: string;
  readonly napi: string;
  readonly platform: string;
  readonly glibc: string | null;
  readonly operations: number;
  readonly devices: DeviceReport;
}

/** Versions, CPU level, threads and CUDA state: what a bug report should hold. @throws LongerError ERR_NATIVE_LOAD */
export function doctor(): DoctorReport {
  const native = loadNative();
  const header = (process.report.getReport() as { header?: { glibcVersionRuntime?: string } }).header;
  return {
    package: native.version(),
    node: process.versions.node,
    napi: process.versions['napi'] ?? '?',
    platform: `${process.platform}-${process.arch}`,
    glibc: header?.glibcVersionRuntime ?? null,
    operations: native.operations().length,
    devices: native.devices(),
  };
}

export function doctorCommand(): Command {
  return new Command('doctor')
    .description('print versions, CPU level, threads and CUDA state')
    .option('--json', 'as JSON')
    .action((options: { json?: boolean }) => {
      const r = doctor();
      if (options.json) {
        process.stdout.write(`${JSON.stringify(r, null, 2)}\n`);
        return;
      }
      const { cpu, cuda } = r.devices;
      const lines = [
        `longer-rec  ${r.package} (${r.operations} operations)`,
        `node        ${r.node}, Node-API ${r.napi}`,
        `platform    ${r.platform}, ${r.glibc ? `glibc ${r.glibc}` : 'no glibc'}`,
        `cpu         kernels for ${cpu.isa}; ${cpu.threads} threads (avx2 ${yes(cpu.avx2)}, avx512 ${yes(cpu.avx512)}, avx512-bf16 ${yes(cpu.avx512bf16)}, amx ${yes(cpu.amx)})`,
        `cuda        ${cuda.usable ? `usable: ${cuda.devices.join(', ')}` : `not usable: ${cuda.reason}`}`,
        `device      auto is ${cuda.usable ? 'cuda:0' : 'cpu'}`,
        ...(cuda.built ? [`            runtime ${cudaVersion(cuda.runtimeVersion)}, driver for ${cudaVersion(cuda.driverVersion)}`] : []),
      ];
      process.stdout.write(`${lines.join('\n')}\n`);
    });
}

const yes = (b: boolean): string => (b ? 'yes' : 'no');
/** CUDA counts 13000 for 13.0, and 0 where there is no driver. */
const cudaVersion = (v: number): string => (v === 0 ? 'none' : `CUDA ${Math.floor(v / 1000)}.${Math.floor((v % 1000) / 10)}`);
