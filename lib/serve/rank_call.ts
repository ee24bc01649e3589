import { LongerError } from '../errors.ts';
import type { Precision } from '../graph/passes/precision.ts';
import type { DeviceName } from '../native/device.ts';
import type { PagedCacheStats } from '../rank/paged_cache.ts';
import type { Ranker } from '../rank/ranker.ts';
import type { RequestOf, Schema, SchemaSpec } from '../schema/schema.ts';
import { show } from '../schema/fail.ts';
import { isObject, requestKeys } from '../schema/given.ts';
import { nearest } from '../schema/suggest.ts';
import type { HistoryStore } from './history_store.ts';
import type { ShadowStats } from './shadow.ts';
import { checkUser } from './stored_events.ts';

/** A request to rank; the history is given, or that of a user of the history store. */
export type RankRequest<S extends SchemaSpec = SchemaSpec> = Omit<RequestOf<S>, 'labels' | 'history'> & {
  readonly history?: RequestOf<S>['history'] | undefined;
  readonly userId?: string | undefined;
  /** Scores to give; the candidates are ordered by the first. Default: all, as the schema orders them. */
  readonly tasks?: readonly (keyof S['labels'] & string)[] | undefined;
  /** Only the best. */
  readonly topK?: number | undefined;
  /** false: nobody will ask with this history again. Where no cache is there, none is made if the plain forward pass is faster. */
  readonly reuse?: boolean | undefined;
  /** Of each candidate in the answer, so many of the events that its score looked at most; costs a full forward pass for the call. */
  readonly explain?: number | undefined;
};

/** @throws LongerError ERR_DATA for what is no request, a user id that is no text, or a key that is misspelt and would not be missed */
export function checkRankRequest(request: object): void {
  if (!isObject(request)) throw new LongerError('ERR_DATA', `expected a request, got ${show(request)}`, { place: 'request' });
  if (request['userId'] !== undefined) checkUser(request['userId'], 'userId');
  for (const key of Object.keys(request).filter((k) => !requestKeys.has(k)).slice(0, 200)) {
    const near = nearest(key, [...requestKeys]);
    if (near !== undefined) throw new LongerError('ERR_DATA', 'unknown key', { place: key.slice(0, 60), remedy: `Did you mean '${near}'?` });
  }
}

export interface RankCall {
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds from now. Later, the call fails with ERR_DEADLINE and what is left of it is not run. */
  readonly timeout?: number | undefined;
}

export interface RankServiceStats {
  readonly calls: number;
  readonly refused: number;
  readonly late: number;
  readonly aborted: number;
  readonly failed: number;
  readonly batches: number;
  readonly rows: number;
  readonly prefills: number;
  /** Caches made from one of a shorter history. */
  readonly appends: number;
  /** Calls scored without a cache. */
  readonly plain: number;
  readonly waitingCalls: number;
  readonly waitingRows: number;
  readonly swaps: number;
  readonly cache: PagedCacheStats;
  readonly shadow: ShadowStats;
}

export interface RankServiceParts {
  readonly histories?: HistoryStore;
  /** Loads what `load` and `shadow` name. */
  readonly open?: (directory: string) => Promise<Ranker>;
  readonly owned?: Disposable;
}

export interface OpenParts {
  /** Makes the history store once the schema is known. */
  readonly histories?: (schema: Schema) => HistoryStore | Promise<HistoryStore>;
  /** Of the runtime that all models of the service share. */
  readonly threads?: number | undefined;
  readonly device?: DeviceName | undefined;
  /** Of every model that is opened. Default: the one that it was trained in. */
  readonly precision?: Precision | undefined;
}
