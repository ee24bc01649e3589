import { LongerError } from '../errors.ts';
import { Runtime } from '../native/runtime.ts';
import type { PagedCache } from '../rank/paged_cache.ts';
import { PagedRanker } from '../rank/paged_ranker.ts';
import { Ranker } from '../rank/ranker.ts';
import { encodeRequest } from '../schema/encode.ts';
import { show } from '../schema/fail.ts';
import { expectOptions } from '../schema/given.ts';
import type { Schema, SchemaSpec } from '../schema/schema.ts';
import { closed, tooMany } from './call.ts';
import { CallQueue } from './call_queue.ts';
import { checkExplain } from './explained.ts';
import { EncodedHistories } from './encoded_histories.ts';
import type { HistoryStore, StoredHistory } from './history_store.ts';
import { checkRankRequest, type OpenParts, type RankCall, type RankRequest, type RankServiceParts, type RankServiceStats } from './rank_call.ts';
import { checkRankServiceOptions, rankServiceDefaults, type RankServiceOptions } from './rank_options.ts';
import { ranked, type RankResult, wantedTasks } from './ranking.ts';
import { RankedUsers } from './ranked_users.ts';
import { fits, inUse, ServedModel } from './served_model.ts';
import { Shadow } from './shadow.ts';
import { warmFromStore, type Warmth } from './store_warmth.ts';

/**
 * Ranks for many callers at once. Calls are gathered into batches, large ones in slices so that small ones pass, and
 * their scores are the same bits as those of the Ranker alone. The queue is bounded, a late or aborted call leaves it, and
 * the model can be replaced while calls run.
 */
export class RankService implements AsyncDisposable {
  readonly options: RankServiceOptions;
  /** Resolves with what happened when the device has failed: this process serves no call any more, a new one will. */
  readonly lost: Promise<LongerError>;
  readonly #histories: HistoryStore | undefined;
  readonly #ranked: RankedUsers;
  readonly #encoded: EncodedHistories;
  readonly #open: (directory: string) => Promise<Ranker>;
  readonly #owned: Disposable | undefined;
  #model: ServedModel;
  readonly #queue: CallQueue;
  #warming: Promise<Warmth> | undefined;
  readonly #shadow = new Shadow();
  #swaps = 0;

  /** The service disposes its rankers, and what `owned` names after them. */
  constructor(ranker: Ranker, name: string, options: Partial<RankServiceOptions> = {}, parts: RankServiceParts = {}) {
    this.options = { ...rankServiceDefaults, ...options };
    checkRankServiceOptions(this.options);
    let lose!: (error: LongerError) => void;
    this.lost = new Promise((resolve) => { lose = resolve; });
    this.#queue = new CallQueue(this.options, this.#shadow, lose);
    this.#histories = parts.histories;
    this.#ranked = new RankedUsers(parts.histories);
    this.#open = parts.open ?? ((directory) => Ranker.open(directory));
    this.#owned = parts.owned;
    this.#model = new ServedModel(ranker, name, this.#newCache(ranker), this.options.cachePrecision);
    this.#encoded = new EncodedHistories(this.schema, this.options.encodedEvents);
  }

  /**
   * Serves the model of a directory; all models that it loads share one runtime.
   * @param parts a function that makes the history store once the schema is known, the threads and device of the runtime, and the precision of every model
   * @throws LongerError ERR_CHECKPOINT, ERR_CONFIG
   */
  static async open(directory: string, options: Partial<RankServiceOptions> = {}, parts: OpenParts = {}): Promise<RankService> {
    expectOptions(parts, ['threads', 'device', 'precision', 'histories'], 'RankService.open');
    const { threads, device, precision, histories } = parts;
    if (histories !== undefined && typeof histories !== 'function')
      throw new LongerError('ERR_CONFIG', 'expected a function, as the schema is known once the model is open', { place: 'RankService.open: histories', remedy: '(schema) => new MemoryHistoryStore(schema) is one' });
    const runtime = new Runtime({ threads, device });
    let store: HistoryStore | undefined;
    const owned = {
      [Symbol.dispose]: (): void => {
        (store as Partial<Disposable> | undefined)?.[Symbol.dispose]?.();
        runtime.dispose();
      },
    };
    try {
      const open = (d: string): Promise<Ranker> => Ranker.open(d, { runtime, ...(precision === undefined ? {} : { precision }) });
      const ranker = await open(directory);
      store = await histories?.(ranker.model.schema);
      const service = new RankService(ranker, directory, options, { ...(store ? { histories: store } : {}), open, owned });
      await service.#plainBelow(service.#model);
      return service;
    } catch (error) {
      owned[Symbol.dispose]();
      throw error;
    }
  }

  /** Whether a call may succeed: false once it is closed, or the device has failed. */
  get serves(): boolean {
    return !this.#queue.closed && !this.#queue.lost;
  }

  get histories(): HistoryStore | undefined {
    return this.#histories;
  }

  get schema(): Schema {
    return this.#model.ranker.model.schema;
  }

  get model(): { readonly name: string; readonly version: string } {
    return { name: this.#model.name, version: this.#model.version };
  }

  stats(): RankServiceStats {
    return { ...this.#queue.stats(), swaps: this.#swaps, cache: this.#model.pages.cache.stats(), shadow: this.#shadow.stats() };
  }

  /**
   * Scores and orders the candidates of one request.
   * @throws LongerError ERR_DATA naming the feature, ERR_OVERLOADED where the queue is full, ERR_DEADLINE, ERR_NUMERIC for a
   * score that is no number, ERR_DISPOSED after `close`; the signal's reason when it aborts
   */
  async rank<S extends SchemaSpec = SchemaSpec>(request: RankRequest<S>, { signal, timeout = this.options.timeout }: RankCall = {}): Promise<RankResult> {
    checkRankRequest(request);
    if (!(typeof timeout === 'number' && timeout > 0)) throw new LongerError('ERR_DATA', `expected milliseconds above 0, got ${show(timeout)}`, { place: 'timeout' });
    const until = performance.now() + timeout;
    signal?.throwIfAborted();
    if (this.#queue.closed) throw closed();
    this.#queue.admit(1, timeout);
    const { userId, topK, tasks, explain, reuse = true, history, candidates } = request as unknown as RankRequest;
    const stored = history === undefined ? await this.#stored(userId) : undefined;
    signal?.throwIfAborted();
    const model = this.#model;
    const { schema } = model.ranker.model;
    const wanted = wantedTasks(schema, tasks);
    if (topK !== undefined && !(Number.isSafeInteger(topK) && topK >= 1)) throw new LongerError('ERR_DATA', `expected a whole number of at least 1, got ${show(topK)}`, { place: 'topK' });
    this.#checkLength('history', stored ? stored.events : history, this.options.maxEvents);
    this.#checkLength('candidates', candidates, this.options.maxCandidates);
    const encoded = encodeRequest(schema, request as never, 'request', stored && this.#encoded.of(userId!, stored));
    if (encoded.candidates > this.options.maxCandidates) throw tooMany('candidates', encoded.candidates, this.options.maxCandidates);
    if (encoded.events > this.options.maxEvents) throw tooMany('history', encoded.events, this.options.maxEvents);
    if (typeof reuse !== 'boolean') throw new LongerError('ERR_DATA', `expected true or false, got ${String(reuse)}`, { place: 'reuse' });
    const plain = !reuse && encoded.candidates <= this.options.slice && encoded.candidates < (await this.#plainBelow(model));
    signal?.throwIfAborted();
    const order = (logits: Float32Array): Pick<RankResult, 'index' | 'logits'> => ranked(logits, schema.tasks.length, wanted, topK);
    const toExplain = explain === undefined ? undefined : { events: explain, candidates: (logits: Float32Array) => order(logits).index };
    if (toExplain) checkExplain(model.ranker, explain, Math.min(encoded.candidates, topK ?? Infinity), this.options.maxExplained);
    const call = await this.#queue.enqueue(model, encoded, userId ?? encoded.userKey, until, signal, { plain, explain: toExplain });
    if (stored) this.#ranked.add(userId!);
    return { model: model.version, cache: call.found, ...order(call.logits), ...(call.explanations ? { explanations: call.explanations } : {}) };
  }

  /**
   * Opens a model, warms it with the histories that were ranked last, and swaps it in. What is in flight finishes on the model before; a load that
   * fails changes nothing.
   * @throws LongerError ERR_CHECKPOINT, ERR_SCHEMA where the schema is another, ERR_CONFIG where `cacheBytes` do not hold a full history of it
   */
  async load(directory: string): Promise<{ name: string; version: string }> {
    const ranker = await this.#opened(directory);
    let model: ServedModel | undefined;
    try {
      model = new ServedModel(ranker, directory, this.#cacheFor(ranker), this.options.cachePrecision);
      model.measuredAs(this.#model);
      await model.warm(inUse(() => this.#model), { share: 0.5, milliseconds: this.options.warmup, stopped: () => this.#queue.closed, calm: () => this.#queue.calm() });
      await this.#plainBelow(model);
      if (this.#queue.closed) throw closed();
    } catch (error) {
      if (model) model.retire();
      else ranker.dispose();
      throw error;
    }
    return this.#replace(model);
  }

  /**
   * Gets ready for the users that were ranked last, as the history store has noted: reads their histories, and makes their caches where the model's form
   * lets a cache serve requests that are not known yet (`appendRefusal` is null). Calls are served meanwhile. Takes `warmup` milliseconds at most.
   */
  warm(): Promise<Warmth> {
    const model = this.#model;
    return (this.#warming = warmFromStore(this.#histories, model, this.#encoded, this.options, () => this.#queue.closed || model.retired));
  }

  /**
   * Puts a ranker in the place of the present one, whose caches are unreachable from here on.
   * @throws LongerError ERR_CONFIG where `cacheBytes` do not hold a full history of it
   */
  swap(ranker: Ranker, name: string): { name: string; version: string } {
    return this.#replace(new ServedModel(ranker, name, this.#cacheFor(ranker), this.options.cachePrecision));
  }

  /** Scores a share of the calls with a second model too, when nothing else waits, and counts how far it is off. */
  async shadow(directory: string): Promise<void> {
    this.#shadow.use(await this.#opened(directory), directory);
  }

  stopShadow(): void {
    this.#shadow.stop();
  }

  /** Takes no more calls, finishes those it has, and frees the model. */
  async close(): Promise<void> {
    if (this.#queue.closed) return;
    await this.#queue.close();
    this.#shadow.stop();
    await this.#warming;
    await this.#ranked.close();
    this.#model.retire();
    this.#model.pages.cache.dispose(); // the pool goes now, not with the garbage
    this.#owned?.[Symbol.dispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #replace(model: ServedModel): { name: string; version: string } {
    const before = this.#model;
    this.#model = model;
    this.#swaps++;
    before.pages.forget();
    before.retire();
    return this.model;
  }

  /** The present pool where the ranker's rows fill its pages, else one of their size. */
  #cacheFor(ranker: Ranker): PagedCache {
    const { cache } = this.#model.pages;
    return fits(ranker, cache, this.options.cachePrecision) ? cache : this.#newCache(ranker);
  }

  #newCache(ranker: Ranker): PagedCache {
    return PagedRanker.cacheFor(ranker, { bytes: this.options.cacheBytes, ttl: this.options.cacheTtl, cachePrecision: this.options.cachePrecision });
  }

  async #opened(directory: string): Promise<Ranker> {
    const ranker = await this.#open(directory);
    const [mine, other] = [this.schema.hash, ranker.model.schema.hash];
    if (mine === other && !this.#queue.closed) return ranker;
    ranker.dispose();
    if (this.#queue.closed) throw closed();
    throw new LongerError('ERR_SCHEMA', 'the model has another schema than the one that is served', { place: directory, remedy: 'Start a service of its own for it' });
  }

  async #stored(userId: string | undefined): Promise<StoredHistory> {
    if (userId === undefined) throw new LongerError('ERR_DATA', 'the history is missing', { place: 'history', remedy: 'Give a history, or the userId of a stored one' });
    if (!this.#histories) throw new LongerError('ERR_DATA', 'there is no history store', { place: 'userId', remedy: 'Give the history itself' });
    return this.#histories.read(userId);
  }

  #checkLength(place: string, list: unknown, most: number): void {
    if (Array.isArray(list) && list.length > most) throw tooMany(place, list.length, most);
  }

  /**
   * Says whether a call that comes now would find a place, before its body is read.
   * @throws LongerError ERR_OVERLOADED
   */
  admit(timeout = this.options.timeout): void {
    this.#queue.admit(1, timeout);
  }

  async #plainBelow(model: ServedModel): Promise<number> {
    if (this.options.cachePrecision === 'int8') return 0; // the plain pass has other bits than keys and values in int8
    return this.options.plainBelow ?? model.plainBelow(this.options.crossover);
  }
}
