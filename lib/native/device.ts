import { LongerError } from '../errors.ts';
import { loadNative } from './load.ts';

/**
 * `auto`: the first GPU where one can be used, else the CPU with a warning that says why. `cuda`: the first GPU. `emulated`: the CUDA kernels on an
 * emulated GPU, in builds for tests alone.
 */
export type DeviceName = 'auto' | 'cpu' | 'cuda' | `cuda:${number}` | 'emulated';

/** A device as a runtime has it. */
export type ChosenDevice = Exclude<DeviceName, 'auto' | 'cuda'>;

/** @throws LongerError ERR_CONFIG for a name that is none */
export function resolveDevice(name: DeviceName): ChosenDevice {
  if (!/^(auto|cpu|cuda|cuda:\d{1,4}|emulated)$/.test(name))
    throw new LongerError('ERR_CONFIG', `expected auto, cpu, cuda or cuda:<index>, got '${name}'`, { place: 'device' });
  if (name === 'cuda') return 'cuda:0';
  if (name !== 'auto') return name;
  const { usable, reason } = loadNative().devices().cuda;
  if (usable) return 'cuda:0';
  process.emitWarning(`device 'auto' is the CPU: ${reason}`, { code: 'LONGER_DEVICE' });
  return 'cpu';
}
