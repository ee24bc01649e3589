import { LongerError, type LongerErrorCode } from '../errors.ts';

/** What every answer that is not a success holds. */
export interface ErrorReply {
  readonly error: {
    /** Of LongerError, or ERR_HTTP for what is wrong with the HTTP request itself. */
    readonly code: LongerErrorCode;
    readonly message: string;
    /** The field of the body, where one is to blame. */
    readonly field?: string;
  };
}

const statuses: Partial<Record<LongerErrorCode, number>> = {
  ERR_DATA: 400, ERR_SHAPE: 400, ERR_SCHEMA: 422, ERR_CHECKPOINT: 422, ERR_CONFIG: 422, ERR_OVERLOADED: 503, ERR_UNAVAILABLE: 503, ERR_DEVICE_LOST: 503, ERR_DISPOSED: 503, ERR_ABORTED: 499, ERR_DEADLINE: 504,
};

/** Status and body of an error; what nobody foresaw tells nothing of the inside. */
export function errorReply(error: unknown): { readonly status: number; readonly body: ErrorReply } {
  if (error instanceof LongerError) {
    const field = error.place?.replace(/^request: /, '');
    return { status: statuses[error.code] ?? 500, body: { error: { code: error.code, message: error.message, ...(field === undefined ? {} : { field }) } } };
  }
  const status = (error as { statusCode?: unknown }).statusCode;
  if (typeof status === 'number' && status >= 400 && status < 500) return { status, body: { error: { code: 'ERR_HTTP', message: (error as Error).message } } };
  return { status: 500, body: { error: { code: 'ERR_HTTP', message: 'internal error' } } };
}
