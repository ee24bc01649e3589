import type { Reuse } from '../model/append.ts';
import { historyForm, type ModelConfig } from '../model/config.ts';
import { cacheRows, type CacheRows, cacheWindow } from '../model/pages_layout.ts';
import type { Window } from '../model/visibility.ts';
import type { EncodedRequest } from '../schema/encode.ts';
import type { Schema } from '../schema/schema.ts';
import { type Content, contentOf, GroupHashes } from './content.ts';

/** A request and what finds its cache. */
export class Wanted {
  readonly request: EncodedRequest;
  readonly scope: string;
  readonly content: Content;
  readonly hashes: GroupHashes;
  readonly window: Window;
  readonly #config: ModelConfig;
  #rows: CacheRows | undefined;

  constructor(schema: Schema, config: ModelConfig, request: EncodedRequest, scope: string) {
    this.request = request;
    this.scope = scope;
    this.content = contentOf(schema, historyForm(config), request);
    this.hashes = new GroupHashes(this.content, config.kind === 'longer' ? config.merge : 1);
    this.window = cacheWindow(config, this.content.first, this.content.end - this.content.first);
    this.#config = config;
  }

  /** Of its cache: a hit needs none. */
  get rows(): CacheRows {
    return (this.#rows ??= cacheRows(this.#config, this.window));
  }
}

/** What a prefill takes over. */
export const nothingReused = ({ content, rows }: Wanted): Reuse => ({ events: { kept: 0, computed: content.end - content.first }, rows: { kept: 0, computed: rows.asking.count } });
