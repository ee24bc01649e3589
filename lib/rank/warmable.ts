import { encodeCandidates, type EncodedRequest } from '../schema/encode.ts';
import type { Schema } from '../schema/schema.ts';
import type { CacheItem } from './paged_cache.ts';

/** A history whose cache can be made before it is asked for. */
export interface Warmable {
  readonly request: EncodedRequest;
  readonly owner: string;
}

/** What an entry was made for, for another ranker of the schema. */
export function warmable(schema: Schema, { scope, content: { start, end, event, eventTime, user, context, time } }: CacheItem): Warmable {
  const owner = scope.slice(scope.indexOf('\0') + 1);
  return { owner, request: { ...encodeCandidates(schema, [] as never), id: undefined, userKey: owner, user, context, time, event, eventTime, events: end - start, historyStart: start } };
}
