import { LongerError, type LongerErrorCode } from '../errors.ts';

/** Codes that the addon's errors have as ours do, each with what to do where the code alone tells. */
const codes: Partial<Record<LongerErrorCode, string | undefined>> = {
  ERR_SHAPE: undefined,
  ERR_MEMORY: undefined,
  ERR_DISPOSED: undefined,
  ERR_GRAPH: undefined,
  ERR_DEVICE: undefined,
  ERR_DEVICE_NO_DRIVER: "Install NVIDIA's driver r580 or newer, or use the device 'cpu'",
  ERR_DEVICE_OLD_DRIVER: "Install NVIDIA's driver r580 or newer, or use the device 'cpu'",
  ERR_DEVICE_OLD: "Use a newer GPU or the device 'cpu'",
  ERR_DEVICE_LOST: 'Start a new process, and resume training from the last checkpoint',
};

/** The addon's errors carry a code in plain Errors: the same as one of ours. */
export function translated(cause: unknown): unknown {
  if (!(cause instanceof Error) || cause instanceof LongerError) return cause;
  const { code } = cause as { code?: unknown };
  if (code === 'ERR_BUSY' || code === 'ERR_KERNEL') return new LongerError('ERR_GRAPH', cause.message, { cause });
  if (typeof code !== 'string' || !Object.hasOwn(codes, code)) return cause;
  const remedy = codes[code as LongerErrorCode];
  return new LongerError(code as LongerErrorCode, cause.message, { cause, ...(remedy === undefined ? {} : { remedy }) });
}

/** A call of the addon, with its errors as ours. */
export function native<T>(call: () => T): T {
  try {
    return call();
  } catch (cause) {
    throw translated(cause);
  }
}

export const disposed = (what: string): LongerError => new LongerError('ERR_DISPOSED', `the ${what} was disposed`);
