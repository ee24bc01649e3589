import { LongerError } from '../errors.ts';
import { Runtime } from '../native/plan.ts';
import type { PagedCache } from '../rank/paged_cache.ts';
import { PagedRanker } from '../rank/paged_ranker.ts';
import { Ranker } from '../rank/ranker.ts';
import { encodeRequest, type EncodedRequest, show } from '../schema/encode.ts';
import type { Schema, SchemaSpec } from '../schema/schema.ts';
import { type Call, closed, late, release, tooMany } from './call.ts';
import { checkExplain, explained, type WantedExplanations } from './explained.ts';
import { EncodedHistories } from './encoded_histories.ts';
import type { HistoryStore, StoredHistory } from './history_store.ts';
import type { OpenParts, RankCall, RankRequest, RankServiceParts, RankServiceStats } from './rank_call.ts';
import { checkRankServiceOptions, rankServiceDefaults, type RankServiceOptions } from './rank_options.ts';
import { pause } from './pause.ts';
import { Pace } from './pace.ts';
import { ranked, type RankResult, wantedTasks } from './ranking.ts';
import { RankedUsers } from './ranked_users.ts';
import { fits, inUse, outOfPages, ServedModel } from './served_model.ts';
import { Shadow } from './shadow.ts';
import { sliceCandidates } from './slices.ts';
import { warmFromStore, type Warmth } from './store_warmth.ts';

/**
 * Ranks for many callers at once. Calls are gathered into batches, large ones in slices so that small ones pass, and
 * their scores are the same bits as those of the Ranker alone. The queue is bounded, a late or aborted call leaves it, and
 * the model can be replaced while calls run.
 */
export class RankService implements AsyncDisposable {
  readonly options: RankServiceOptions;
  readonly #histories: HistoryStore | undefined;
  readonly #ranked: RankedUsers;
  readonly #encoded: EncodedHistories;
  readonly #open: (directory: string) => Promise<Ranker>;
  readonly #owned: Disposable | undefined;
  #model: ServedModel;
  #waiting: Call[] = [];
  #waitingRows = 0;
  readonly #pace = new Pace();
  #running = false;
  #closed = false;
  #idle: (() => void)[] = [];
  #warming: Promise<Warmth> | undefined;
  readonly #shadow = new Shadow();
  #counts = { calls: 0, refused: 0, late: 0, aborted: 0, failed: 0, batches: 0, rows: 0, prefills: 0, appends: 0, plain: 0, swaps: 0 };

  /** The service disposes its rankers, and what `owned` names after them. */
  constructor(ranker: Ranker, name: string, options: Partial<RankServiceOptions> = {}, parts: RankServiceParts = {}) {
    this.options = { ...rankServiceDefaults, ...options };
    checkRankServiceOptions(this.options);
    this.#histories = parts.histories;
    this.#ranked = new RankedUsers(parts.histories);
    this.#open = parts.open ?? ((directory) => Ranker.open(directory));
    this.#owned = parts.owned;
    this.#model = new ServedModel(ranker, name, this.#newCache(ranker), this.options.cachePrecision);
    this.#encoded = new EncodedHistories(this.schema, this.options.encodedEvents);
  }

  /**
   * Serves the model of a directory; all models that it loads share one runtime.
   * @throws LongerError ERR_CHECKPOINT, ERR_CONFIG
   */
  static async open(directory: string, options: Partial<RankServiceOptions> = {}, { threads, device, histories, ...parts }: OpenParts = {}): Promise<RankService> {
    const runtime = new Runtime({ threads, device });
    let store: HistoryStore | undefined;
    const owned = {
      [Symbol.dispose]: (): void => {
        (store as Partial<Disposable> | undefined)?.[Symbol.dispose]?.();
        runtime.dispose();
      },
    };
    try {
      const ranker = await Ranker.open(directory, { runtime });
      store = await histories?.(ranker.model.schema);
      const service = new RankService(ranker, directory, options, { ...parts, ...(store ? { histories: store } : {}), open: (d) => Ranker.open(d, { runtime }), owned });
      await service.#plainBelow(service.#model);
      return service;
    } catch (error) {
      owned[Symbol.dispose]();
      throw error;
    }
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
    return { ...this.#counts, waitingCalls: this.#waiting.length, waitingRows: this.#waitingRows, cache: this.#model.pages.cache.stats(), shadow: this.#shadow.stats() };
  }

  /**
   * Scores and orders the candidates of one request.
   * @throws LongerError ERR_DATA naming the feature, ERR_OVERLOADED where the queue is full, ERR_DEADLINE, ERR_NUMERIC for a
   * score that is no number, ERR_DISPOSED after `close`; the signal's reason when it aborts
   */
  async rank<S extends SchemaSpec = SchemaSpec>(request: RankRequest<S>, { signal, timeout = this.options.timeout }: RankCall = {}): Promise<RankResult> {
    const until = performance.now() + timeout;
    signal?.throwIfAborted();
    if (this.#closed) throw closed();
    this.#admit(1, timeout);
    const { userId, topK, tasks, explain, reuse = true, ...rest } = request as unknown as RankRequest;
    const stored = rest.history === undefined ? await this.#stored(userId) : undefined;
    const history = stored ? stored.events : rest.history;
    const given = { ...rest, history, historyStart: stored ? stored.dropped : rest.historyStart };
    signal?.throwIfAborted();
    const model = this.#model;
    const { schema } = model.ranker.model;
    const wanted = wantedTasks(schema, tasks);
    if (topK !== undefined && !(Number.isSafeInteger(topK) && topK >= 1)) throw new LongerError('ERR_DATA', `expected a whole number of at least 1, got ${show(topK)}`, { place: 'topK' });
    this.#checkLength('history', history, this.options.maxEvents);
    this.#checkLength('candidates', rest.candidates, this.options.maxCandidates);
    const encoded = encodeRequest(schema, given as never, 'request', stored && this.#encoded.of(userId!, stored));
    if (encoded.candidates > this.options.maxCandidates) throw tooMany('candidates', encoded.candidates, this.options.maxCandidates);
    if (encoded.events > this.options.maxEvents) throw tooMany('history', encoded.events, this.options.maxEvents);
    if (typeof reuse !== 'boolean') throw new LongerError('ERR_DATA', `expected true or false, got ${String(reuse)}`, { place: 'reuse' });
    const plain = !reuse && encoded.candidates <= this.options.slice && encoded.candidates < (await this.#plainBelow(model));
    signal?.throwIfAborted();
    const order = (logits: Float32Array): Pick<RankResult, 'index' | 'logits'> => ranked(logits, schema.tasks.length, wanted, topK);
    const toExplain = explain === undefined ? undefined : { events: explain, candidates: (logits: Float32Array) => order(logits).index };
    if (toExplain) checkExplain(model.ranker, explain, Math.min(encoded.candidates, topK ?? Infinity), this.options.maxExplained);
    const call = await this.#enqueue(model, encoded, userId ?? encoded.userKey, until, signal, { plain, explain: toExplain });
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
      await model.warm(inUse(() => this.#model), { share: 0.5, milliseconds: this.options.warmup, stopped: () => this.#closed, calm: () => this.#calm() });
      await this.#plainBelow(model);
      if (this.#closed) throw closed();
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
    return (this.#warming = warmFromStore(this.#histories, model, this.#encoded, this.options, () => this.#closed || model.retired));
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
    if (this.#closed) return;
    this.#closed = true;
    if (this.#running) await new Promise<void>((resolve) => this.#idle.push(resolve));
    this.#shadow.stop();
    await this.#warming;
    await this.#ranked.close();
    this.#model.retire();
    this.#owned?.[Symbol.dispose]();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #replace(model: ServedModel): { name: string; version: string } {
    const before = this.#model;
    this.#model = model;
    this.#counts.swaps++;
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
    if (mine === other && !this.#closed) return ranker;
    ranker.dispose();
    if (this.#closed) throw closed();
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
    this.#admit(1, timeout);
  }

  /**
   * A call whose wait would take more than half of its time is refused while that is cheap: the estimate may be wrong by a factor of two. One whose history
   * must be read first goes at three eighths already, so that under overload visits which were let in go on from their caches and new ones are turned away:
   * calls refused by chance leave each visit its prefill and take the hits after it.
   * @param left milliseconds to its deadline
   * @throws LongerError ERR_OVERLOADED
   */
  #admit(rows: number, left: number, cached = true): void {
    const { maxCalls, maxRows } = this.options;
    const wait = this.#pace.of(this.#waiting);
    const full = this.#waiting.length >= maxCalls ? `${maxCalls} calls are waiting already`
      : this.#waitingRows > 0 && this.#waitingRows + rows > maxRows ? `${maxRows} candidates are waiting already`
        : wait > left * (cached ? 1 / 2 : 3 / 8) ? `those that wait will take some ${Math.ceil(wait)} ms` : undefined;
    if (full === undefined) return;
    this.#counts.refused++;
    throw new LongerError('ERR_OVERLOADED', full, { remedy: 'Try again later, or spread the load over more processes' });
  }

  #enqueue(model: ServedModel, request: EncodedRequest, owner: string, until: number, signal: AbortSignal | undefined, how: Pick<Call, 'plain' | 'explain'>): Promise<Call> {
    if (this.#closed) throw closed();
    const left = until - performance.now();
    if (left <= 0) {
      this.#counts.late++;
      throw late();
    }
    const leave = model.enter();
    const cache = model.pages.held(request, owner);
    try {
      this.#admit(request.candidates, left, cache !== undefined);
    } catch (error) {
      cache?.release();
      leave();
      throw error;
    }
    this.#counts.calls++;
    return new Promise((resolve, reject) => {
      const logits = new Float32Array(request.candidates * model.ranker.model.schema.tasks.length);
      const call: Call = {
        model, request, owner, logits, cache, found: cache ? 'hit' : 'miss', ...how, explanations: undefined, done: 0, settled: false, busy: false, leave,
        settle: (error) => {
          if (call.settled) return;
          call.settled = true;
          clearTimeout(timer);
          signal?.removeEventListener('abort', abort);
          this.#waitingRows -= request.candidates - call.done;
          const at = this.#waiting.indexOf(call);
          if (at >= 0) this.#waiting.splice(at, 1);
          if (error === undefined) resolve(call);
          else reject(error as Error);
          if (error === undefined && Math.random() < this.options.shadowShare) this.#shadow.offer(request, logits);
          if (!call.busy) release(call);
        },
      };
      const abort = (): void => {
        this.#counts.aborted++;
        call.settle(signal!.reason);
      };
      const timer = setTimeout(() => {
        this.#counts.late++;
        call.settle(late());
      }, Math.min(left, 2 ** 31 - 1));
      signal?.addEventListener('abort', abort, { once: true });
      this.#waiting.push(call);
      this.#waitingRows += request.candidates;
      if (!this.#running) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#running = true;
    await pause(this.options.window);
    for (;;) {
      if (this.#waiting.length > 0) await this.#turn();
      else if (this.#shadow.behind && !this.#closed) await this.#shadow.step();
      else break;
    }
    this.#running = false;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  /**
   * A batch of candidates whose caches are there, then some of the histories that must be read: neither kind of work waits for more than one turn of the other,
   * and each is done in order of arrival, calls of one model together.
   */
  async #turn(): Promise<void> {
    const { rows, slice, events } = this.options;
    const ready = this.#waiting.filter((c) => c.cache && c.model === this.#waiting.find((first) => first.cache)!.model);
    if (ready.length > 0) {
      const taken: [Call, number][] = [];
      let room = rows;
      for (const call of ready) {
        if (room <= 0) break;
        const most = Math.min(room, this.#waiting.length === 1 ? rows : slice);
        const to = Math.min(call.request.candidates, call.done + most);
        taken.push([call, to]);
        room -= to - call.done;
      }
      const calls = taken.map(([call]) => call);
      await this.#work(calls, () => this.#score(ready[0]!.model, taken));
      // Who has had a slice stands behind who has not.
      this.#waiting = [...this.#waiting.filter((c) => !calls.includes(c)), ...this.#waiting.filter((c) => calls.includes(c))];
    }
    const first = this.#waiting.find((c) => !c.cache);
    if (!first) return;
    const { model, plain } = first;
    const bare: Call[] = [];
    let [fresh, candidates] = [0, 0];
    for (const call of this.#waiting) {
      if (call.cache || call.model !== model || call.plain !== plain) continue;
      call.cache = model.pages.held(call.request, call.owner);
      if (call.cache) {
        call.found = 'hit'; // made meanwhile by another call
        continue;
      }
      fresh += call.request.events;
      candidates += call.request.candidates;
      if (bare.length > 0 && (fresh > events || (plain && candidates > rows))) break;
      bare.push(call);
    }
    if (bare.length > 0) await this.#work(bare, () => (plain ? this.#scoreOnce(model, bare) : this.#hold(model, bare)));
  }

  /** Runs what is done for calls that wait: until it ends, those that settle keep their model and cache. */
  async #work(calls: readonly Call[], run: () => Promise<void>): Promise<void> {
    for (const call of calls) call.busy = true;
    try {
      await run();
    } catch (error) {
      for (const call of calls) this.#fail(call, error);
    } finally {
      for (const call of calls) {
        call.busy = false;
        if (call.settled) release(call);
      }
    }
  }

  /** Until nobody waits: what may give way to calls, but not for ever. */
  async #calm(): Promise<void> {
    const until = performance.now() + patience;
    for (let left = patience; this.#running && left > 0; left = until - performance.now())
      await new Promise<void>((resolve) => {
        this.#idle.push(resolve);
        setTimeout(resolve, left);
      });
  }

  /** Gives calls their caches. Where the pages in use leave no room for all, those that find none wait until others have let go of theirs. */
  async #hold(model: ServedModel, calls: readonly Call[]): Promise<void> {
    try {
      const from = performance.now();
      const held = await model.pages.hold(calls.map((c) => c.request), { owners: calls.map((c) => c.owner) });
      this.#pace.read(calls.filter((_, i) => held[i]!.outcome === 'miss'), performance.now() - from);
      calls.forEach((call, i) => {
        call.cache = held[i]!;
        call.found = found[held[i]!.outcome];
        if (call.found === 'miss') this.#counts.prefills++;
        else if (call.found === 'grown') this.#counts.appends++;
      });
    } catch (error) {
      if (!outOfPages(error)) throw error;
      if (calls.length > 1) for (const call of calls) await this.#hold(model, [call]);
      else if (!this.#waiting.some((c) => c.cache)) this.#fail(calls[0]!, error);
    }
  }

  #fail(call: Call, error: unknown): void {
    if (!call.settled) this.#counts.failed++;
    call.settle(error);
  }

  async #plainBelow(model: ServedModel): Promise<number> {
    if (this.options.cachePrecision === 'int8') return 0; // the plain pass has other bits than keys and values in int8
    return this.options.plainBelow ?? model.plainBelow(this.options.crossover);
  }

  async #scoreOnce(model: ServedModel, calls: readonly Call[]): Promise<void> {
    this.#counts.plain += calls.length;
    const from = performance.now();
    const logits = await model.ranker.scoreOnce(calls.map((call) => call.request));
    this.#pace.read(calls, performance.now() - from);
    await this.#give(model, calls.map((call) => [call, call.request.candidates]), logits);
  }

  /** @param taken calls with the candidate at which their slices end */
  async #score(model: ServedModel, taken: readonly (readonly [Call, number])[]): Promise<void> {
    const from = performance.now();
    const logits = await model.pages.score(taken.map(([call]) => call.cache!), taken.map(([call, to]) => sliceCandidates(call.request, call.done, to)));
    this.#pace.scored(taken.reduce((n, [call, to]) => n + to - call.done, 0), performance.now() - from);
    await this.#give(model, taken, logits);
  }

  /** Hands out scores that are there. */
  async #give(model: ServedModel, taken: readonly (readonly [Call, number])[], logits: Float32Array): Promise<void> {
    const { tasks } = model.ranker.model.schema;
    this.#counts.batches++;
    let at = 0;
    for (const [call, to] of taken) {
      const scored = to - call.done;
      const mine = logits.subarray(at, (at += scored * tasks.length));
      this.#counts.rows += scored;
      if (call.settled) continue;
      if (mine.some((x) => !Number.isFinite(x))) {
        this.#fail(call, new LongerError('ERR_NUMERIC', 'the model gave a score that is no finite number', { place: model.name, remedy: 'Its parameters are damaged: load another checkpoint' }));
        continue;
      }
      call.logits.set(mine, call.done * tasks.length);
      call.done = to;
      this.#waitingRows -= scored;
      if (to < call.request.candidates) continue;
      if (call.explain) await this.#explain(model, call, call.explain);
      else call.settle();
    }
  }

  async #explain(model: ServedModel, call: Call, wanted: WantedExplanations): Promise<void> {
    try {
      call.explanations = await explained(model.ranker, call.request, wanted, call.logits);
      call.settle();
    } catch (error) {
      this.#fail(call, error);
    }
  }
}

/** Milliseconds after which a warm-up takes a turn among calls that never cease. */
const patience = 50;

const found = { hit: 'hit', partial: 'grown', miss: 'miss' } as const;
