/** longer-rec/serve: ranking for many callers, with caches, histories and an HTTP service. */
export { type HistoryLimits, type HistoryStore, MemoryHistoryStore, type StoredHistory } from './history_store.ts';
export type { StoredEvent } from './stored_events.ts';
export { RedisHistoryStore, type RedisHistoryOptions } from './redis_history_store.ts';
export { rankServiceDefaults, type RankServiceOptions } from './rank_options.ts';
export type { OpenParts, RankCall, RankRequest, RankServiceParts, RankServiceStats } from './rank_call.ts';
export { RankService } from './rank_service.ts';
export type { RankResult } from './ranking.ts';
export type { Warmth } from './store_warmth.ts';
export type { ShadowStats } from './shadow.ts';
export { type CallOptions, RankClient, type RankReply } from './client.ts';
export type { ErrorReply } from './http_errors.ts';
export { rankPlugin, type RankPluginOptions } from './http_plugin.ts';
export { type HttpOptions, rankServer } from './http_server.ts';
export { LogLines } from './log_lines.ts';
