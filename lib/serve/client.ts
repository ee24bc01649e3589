import { LongerError, type LongerErrorCode } from '../errors.ts';
import type { EventOf, SchemaSpec } from '../schema/schema.ts';
import type { RankRequest } from './rank_call.ts';
import type { RankResult } from './ranking.ts';
import type { ErrorReply } from './http_errors.ts';
import { exactJson } from './json.ts';

/** What POST /v1/rank answers; lists are in the order of `index`. */
export interface RankReply<S extends SchemaSpec = SchemaSpec> {
  readonly model: string;
  readonly cache: RankResult['cache'];
  readonly index: readonly number[];
  readonly logits: Readonly<Partial<Record<keyof S['labels'] & string, readonly number[]>>>;
  readonly probabilities: Readonly<Partial<Record<keyof S['labels'] & string, readonly number[]>>>;
  /** Where they were asked for. */
  readonly explanations?: readonly { readonly events: readonly number[]; readonly mass: readonly number[]; readonly rest: number | null }[];
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds; sent as the deadline header. */
  readonly timeout?: number | undefined;
}

/** Speaks to `longer serve`, typed by the schema: `new RankClient<typeof schema.spec>(url)`. */
export class RankClient<S extends SchemaSpec = SchemaSpec> {
  readonly #url: string;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(url: string, { token }: { readonly token?: string } = {}) {
    this.#url = url.replace(/\/$/, '');
    this.#headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  }

  /**
   * @throws LongerError with the code that the service gave, `place` being the field; ERR_UNAVAILABLE where it cannot be reached, ERR_HTTP where another
   * answers; ERR_DATA for what JSON cannot carry; the signal's reason when it aborts
   */
  rank(request: RankRequest<S>, options: CallOptions = {}): Promise<RankReply<S>> {
    return this.#send('POST', '/v1/rank', request, options);
  }

  appendHistory(user: string, events: readonly EventOf<S>[], options?: CallOptions): Promise<{ events: number }> {
    return this.#send('POST', `/v1/histories/${encodeURIComponent(user)}`, { events }, options);
  }

  replaceHistory(user: string, events: readonly EventOf<S>[], options?: CallOptions): Promise<{ events: number }> {
    return this.#send('PUT', `/v1/histories/${encodeURIComponent(user)}`, { events }, options);
  }

  deleteHistory(user: string, options?: CallOptions): Promise<{ deleted: boolean }> {
    return this.#send('DELETE', `/v1/histories/${encodeURIComponent(user)}`, undefined, options);
  }

  loadModel(name: string, options?: CallOptions): Promise<{ serving: { name: string; version: string } }> {
    return this.#send('POST', '/v1/models', { name }, options);
  }

  async #send<T>(method: string, path: string, body: unknown, { signal, timeout }: CallOptions = {}): Promise<T> {
    const url = this.#url + path;
    const broken = (cause: unknown): never => {
      if (signal?.aborted) throw cause;
      const why = (cause as { readonly cause?: { readonly code?: string } }).cause?.code ?? String(cause);
      throw new LongerError('ERR_UNAVAILABLE', `the service cannot be reached: ${why}`, { place: url, cause });
    };
    const reply = await fetch(url, {
      method, signal: signal ?? null,
      headers: { ...this.#headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...(timeout === undefined ? {} : { 'x-deadline-ms': String(timeout) }) },
      ...(body === undefined ? {} : { body: exactJson(body) }),
    }).catch(broken);
    const text = await reply.text().catch(broken);
    if (reply.ok) return JSON.parse(text) as T;
    const { error } = parsed(text, `status ${reply.status} of ${method} ${url}`);
    const { code, message, field } = error;
    throw new LongerError(code as LongerErrorCode, withoutPlace(message, field), field === undefined ? {} : { place: field });
  }
}

/** LongerError puts the place in front of a message, and this one has been through that already. */
function withoutPlace(message: string, field: string | undefined): string {
  const at = field === undefined ? -1 : message.indexOf(`${field}: `);
  return at < 0 ? message : message.slice(at + field!.length + 2);
}

function parsed(text: string, otherwise: string): { error: { code: string; message: string; field?: string } } {
  try {
    const reply = JSON.parse(text) as Partial<ErrorReply>;
    if (typeof reply.error === 'object') return { error: reply.error };
  } catch { /* someone between answered */ }
  return { error: { code: 'ERR_HTTP', message: otherwise } };
}
