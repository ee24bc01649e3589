import type { DeviceName } from '../../lib/native/device.ts';
import type { BenchRecord } from '../record.ts';
import type { Torch } from './torch.ts';

/** What the figures of a GPU are measured with. */
export interface GpuContext {
  readonly device: DeviceName;
  /** Shapes that the emulated device can run: figures that mean nothing, of code that runs. */
  readonly tiny: boolean;
  /** Seconds, FLOPs and bytes of a case of bench/native/gpu. @throws Error where the program could not be built */
  readonly kernel: (name: string) => Promise<{ readonly seconds: number; readonly flops: number; readonly bytes: number }>;
  /** PyTorch on the same device, or why there is none. */
  readonly torch: Torch | string;
  /** Bytes a second, read and written, of a copy within the device's memory. */
  readonly copyRate: () => Promise<number>;
}

/** A row of the table: one figure, beside its roof or peers in the same run. */
export interface GpuFigure {
  readonly name: string;
  readonly run: (context: GpuContext) => AsyncIterable<Omit<BenchRecord, 'bench' | 'threads'>>;
}
