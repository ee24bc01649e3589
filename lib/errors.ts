/**
 * Stable codes: match on these, not on messages. Of a device: ERR_DEVICE_NO_DRIVER and ERR_DEVICE_OLD_DRIVER (NVIDIA's), ERR_DEVICE_OLD (a GPU before
 * sm_80), ERR_DEVICE_LOST (it failed, and does nothing more for this process), ERR_DEVICE for everything else; ERR_MEMORY where its memory is out.
 */
export type LongerErrorCode =
  | 'ERR_SCHEMA'
  | 'ERR_DATA'
  | 'ERR_SHAPE'
  | 'ERR_CONFIG'
  | 'ERR_CHECKPOINT'
  | 'ERR_NATIVE_LOAD'
  | 'ERR_DEVICE'
  | 'ERR_DEVICE_NO_DRIVER'
  | 'ERR_DEVICE_OLD_DRIVER'
  | 'ERR_DEVICE_OLD'
  | 'ERR_DEVICE_LOST'
  | 'ERR_MEMORY'
  | 'ERR_DISPOSED'
  | 'ERR_NUMERIC'
  | 'ERR_ABORTED'
  | 'ERR_DEADLINE'
  | 'ERR_HTTP'
  | 'ERR_OVERLOADED'
  | 'ERR_UNAVAILABLE'
  | 'ERR_GRAPH';

export interface ErrorDetails {
  /** File and row, feature, setting or operation. */
  readonly place?: string;
  /** What to do about it. */
  readonly remedy?: string;
  readonly cause?: unknown;
}

/** The one error class of the library. The message reads "<place>: <reason>. <remedy>". */
export class LongerError extends Error {
  readonly code: LongerErrorCode;
  /** What is wrong, without place and remedy. */
  readonly reason: string;
  readonly place: string | undefined;
  readonly remedy: string | undefined;

  constructor(code: LongerErrorCode, reason: string, details: ErrorDetails = {}) {
    const { place, remedy, cause } = details;
    const full = `${place === undefined ? '' : `${place}: `}${reason}${remedy === undefined ? '' : `${reason.endsWith('?') ? '' : '.'} ${remedy}`}`;
    super(full, cause === undefined ? undefined : { cause });
    this.name = 'LongerError';
    this.code = code;
    this.reason = reason;
    this.place = place;
    this.remedy = remedy;
  }
}
