import { packBatch, packCandidates } from '../data/batch.ts';
import { LongerError } from '../errors.ts';
import { sizeOf } from '../graph/dim.ts';
import type { Graph } from '../graph/graph.ts';
import { appendRefusal } from '../model/append.ts';
import { historyForm, type LongerConfig } from '../model/config.ts';
import { layoutBeside, layoutCandidates, layoutHistory, type ModelInputs } from '../model/layout.ts';
import { planOf } from '../model/model.ts';
import { type CachePrecision, defaultPageBytes, keepsRows, PagedGraphs } from '../model/pages.ts';
import { type CacheRows, type Chain, type Held, heldRows, layoutGrowth, layoutKeys, layoutRows, mostPages, pagesOf, reuseOf, rowsOf } from '../model/pages_layout.ts';
import { segmentsOf } from '../model/visibility.ts';
import { arrayTypes } from '../native/dtype.ts';
import type { Plan, RunArray } from '../native/plan.ts';
import type { DTypeName, NumericArray } from '../native/types.ts';
import { encodeCandidates, type EncodedCandidates, type EncodedRequest } from '../schema/encode.ts';
import { expectOptions } from '../schema/given.ts';
import type { CandidatesOf, HistoryOf, RequestOf, SchemaSpec } from '../schema/schema.ts';
import { agreement, type Content, kept, sameSide } from './content.ts';
import { type Growth, grownPages } from './grown_pages.ts';
import { type CachedHistory, Holding } from './holding.ts';
import { type CacheItem, type HeldItem, PagedCache } from './paged_cache.ts';
import { encodedCandidates, encodedRequests, type Ranker } from './ranker.ts';
import { nothingReused, Wanted } from './wanted.ts';
import type { Warmable } from './warmable.ts';

export interface PagedRankerOptions {
  /** Shared with other models; default: one of its own of `bytes`. */
  readonly cache?: PagedCache;
  /** Budget of an own cache; default 256 MiB. */
  readonly bytes?: number;
  /** How keys and values lie in pages; default 'model': as its precision computes them. */
  readonly cachePrecision?: CachePrecision;
  /** Seconds after which an entry of an own cache is not used any more; default: never. */
  readonly ttl?: number;
}

/** A cache that is being computed. */
interface Pending {
  readonly content: Content;
  /** Resolves when that has succeeded or failed. */
  readonly settled: Promise<void>;
}

let rankers = 0;

/**
 * A ranker whose caches live in pages across requests: `hold` finds, grows or computes the cache of each request, `score` reads it where it lies. An entry
 * is found by rolling hashes and taken only where everything that the model reads of it is the same, bit for bit: the logits are those of the full forward
 * pass (with keys and values in int8 those of such a cache, whether it is found, grown or new). Weights must stay as they are while entries are in use; `forget` makes all of them unreachable.
 */
export class PagedRanker<S extends SchemaSpec = SchemaSpec> implements Disposable {
  readonly ranker: Ranker<S>;
  readonly cache: PagedCache;
  readonly #ownCache: boolean;
  readonly #graphs: PagedGraphs;
  readonly #quantised: boolean;
  readonly #prefill: Plan;
  readonly #score: Plan;
  readonly #append: Plan | undefined;
  readonly #scope: string;
  /** By scope. */
  readonly #pending = new Map<string, readonly Pending[]>();
  readonly #reads: { readonly user: boolean; readonly context: boolean; readonly time: boolean };
  /** Rows of the pool by symbol. */
  readonly #pools: Record<string, number>;
  /** What every score reads of the pool. */
  readonly #poolArrays: ReadonlyMap<string, RunArray>;
  /** Of a cache that is scored by itself, again and again. */
  readonly #keysAlone = new WeakMap<Chain, ModelInputs>();

  /**
   * @throws LongerError ERR_CONFIG for a budget of a cache that is shared, one that does not hold a full history, or rows that do not fit into the pages of a shared cache;
   * ERR_MEMORY
   */
  constructor(ranker: Ranker<S>, options: PagedRankerOptions = {}) {
    const { model, precision, state, runtime, denseStore } = ranker;
    expectOptions(options, ['cache', 'bytes', 'ttl', 'cachePrecision'], 'PagedRanker');
    const { cache, bytes = 256 * 2 ** 20, ttl, cachePrecision = 'model' } = options;
    for (const place of ['bytes', 'ttl'] as const)
      if (cache && options[place] !== undefined) throw new LongerError('ERR_CONFIG', 'a shared cache has its own', { place, remedy: `Give it to the PagedCache, or give no cache` });
    this.ranker = ranker;
    this.#graphs = new PagedGraphs(model, precision, cache?.pool.pageBytes ?? defaultPageBytes(model, precision, cachePrecision), cachePrecision, runtime);
    this.#quantised = cachePrecision === 'int8';
    const least = mostPages(model.config, this.#graphs.paged) * this.#graphs.pageBytes;
    const budget = cache ? cache.pool.pages * cache.pool.pageBytes : bytes;
    if (budget < least) throw new LongerError('ERR_CONFIG', `the pages of a full history take up to ${least} bytes, got ${budget}`, { place: 'bytes', remedy: 'Give the cache a larger budget' });
    if (cache && cache.pool.memory.device !== runtime.device)
      throw new LongerError('ERR_CONFIG', `the pages are in the memory of ${cache.pool.memory.device}, the ranker runs on ${runtime.device}`, { place: 'cache', remedy: 'Give the PagedCache the runtime of its rankers' });
    this.#ownCache = cache === undefined;
    this.cache = cache ?? PagedRanker.cacheFor(ranker, { bytes, cachePrecision, ...(ttl === undefined ? {} : { ttl }) });
    this.#pools = Object.fromEntries(this.#graphs.paged.map((e) => [`pool.${e.dtype}`, this.cache.pool.pages * e.pageRows]));
    this.#poolArrays = new Map(this.#graphs.paged.map(({ dtype }) => [`pool.${dtype}`, this.cache.pool[dtype]]));
    const prefill = this.#graphs.prefill();
    const reads = [...prefill.inputs.keys()];
    this.#reads = { user: reads.some((n) => n.startsWith('user.')), context: reads.some((n) => n.startsWith('context.')), time: reads.includes('request.time') || reads.includes('part.time') };
    const plan = (graph: Graph): Plan => planOf(model, graph, state, runtime, denseStore);
    [this.#prefill, this.#score] = [plan(prefill), plan(this.#graphs.score())];
    if (appendRefusal(model.schema, model.config) === null) this.#append = plan(this.#graphs.append());
    this.#scope = `${++rankers}\0`;
  }

  /** A cache for this ranker and others of its sizes. One that keeps a single row a request has no use for pages: then the budget is for what lies beside them. */
  static cacheFor({ model, precision, runtime }: Pick<Ranker, 'model' | 'precision' | 'runtime'>, { bytes, ttl, cachePrecision }: { readonly bytes: number; readonly ttl?: number; readonly cachePrecision?: CachePrecision }): PagedCache {
    const pageBytes = defaultPageBytes(model, precision, cachePrecision);
    const rest = { pageBytes, runtime, ...(ttl === undefined ? {} : { ttl }) };
    return new PagedCache(keepsRows(model, precision) ? { bytes, ...rest } : { bytes: pageBytes, besideBytes: bytes, ...rest });
  }

  /**
   * Finds, grows or computes the cache of each request, and holds it. Requests of one owner share entries; what another call is just computing is waited for, not computed twice.
   * @param owners whose entries each may use; default: its user (`userKey`)
   * @throws LongerError ERR_DATA naming request and feature; ERR_SHAPE for another number of owners; ERR_MEMORY where the pages that are in use leave too few. Then nothing is held
   */
  async hold(requests: readonly (HistoryOf<S> | RequestOf<S> | EncodedRequest)[], { owners, signal }: { readonly owners?: readonly string[]; readonly signal?: AbortSignal } = {}): Promise<CachedHistory[]> {
    if (owners && owners.length !== requests.length) throw new LongerError('ERR_SHAPE', `${requests.length} requests and ${owners.length} owners were given`);
    const wanted = encodedRequests(this.ranker.model.schema, requests).map((r, i) => this.#wanted(r, owners?.[i]));
    const held = new Map<Wanted, Holding>();
    try {
      for (let open = wanted; open.length > 0; open = open.filter((w) => !held.has(w))) {
        const others = await this.#holdNow(open, held, signal);
        await Promise.all(others); // then they are looked for again
        signal?.throwIfAborted();
      }
    } catch (error) {
      for (const h of held.values()) h.release();
      throw error;
    }
    return wanted.map((w) => held.get(w)!);
  }

  /** Holds the cache of an encoded request if all of it is there. */
  held(request: EncodedRequest, owner = request.userKey): CachedHistory | undefined {
    return this.#hit(this.#wanted(request, owner));
  }

  /** This ranker's entries, used last first. */
  hottest(): CacheItem[] {
    return this.cache.hottest(this.#scope);
  }

  /** Whether the cache of a history serves a request of another user, context and time, or a longer history. */
  get grows(): boolean {
    return this.#append !== undefined;
  }

  /** Computes a cache before it is asked for, unless it is there, and runs the scoring once; counts nothing. @returns pages that it took */
  async warm({ request, owner }: Warmable): Promise<number> {
    const w = this.#wanted(request, owner);
    if (this.#there(w)) return 0;
    const [held] = await this.#compute([w], undefined);
    using warmed = new Holding('miss', nothingReused(w), encodeCandidates(this.ranker.model.schema, [] as never), held!);
    await this.score([warmed]);
    return this.#pagesOf(w.rows);
  }

  /** Holds what is there, what can be grown and what nobody else is computing. @returns when those that others compute are settled */
  async #holdNow(wanted: readonly Wanted[], held: Map<Wanted, Holding>, signal: AbortSignal | undefined): Promise<Promise<void>[]> {
    const others: Promise<void>[] = [];
    const grow = new Map<Wanted, Growth>();
    const miss: Wanted[] = [];
    const done = new Set<() => void>();
    try {
      for (const w of wanted) {
        const hit = this.#hit(w);
        if (hit) {
          held.set(w, hit);
          continue;
        }
        const same = this.#pending.get(w.scope)?.find((p) => this.#equal(p.content, w.content));
        if (same) {
          others.push(same.settled);
          continue;
        }
        done.add(this.#announce(w));
        const growth = this.#growth(w);
        if (growth) grow.set(w, growth);
        else miss.push(w);
      }
      if (grow.size > 0) {
        const items = await this.#grow(grow, signal);
        if (!items) miss.push(...grow.keys());
        else [...grow].forEach(([w, { from, held: kept }], i) => {
          this.cache.count('partial');
          this.cache.outgrow(from.item);
          held.set(w, new Holding('partial', reuseOf(this.#graphs.config as LongerConfig, w.window, w.content.end - w.content.first, kept), w.request, items[i]!));
        });
      }
      if (miss.length > 0) {
        const items = await this.#compute(miss, signal);
        miss.forEach((w, i) => {
          this.cache.count('miss');
          held.set(w, new Holding('miss', nothingReused(w), w.request, items[i]!));
        });
      }
      return others;
    } finally {
      for (const { from } of grow.values()) from.release();
      for (const settle of done) settle();
    }
  }

  /** Says that a cache is being computed. @returns what to call when that is over */
  #announce({ scope, content }: Wanted): () => void {
    let settle!: () => void;
    const pending: Pending = { content, settled: new Promise((resolve) => { settle = resolve; }) };
    this.#pending.set(scope, [...(this.#pending.get(scope) ?? []), pending]);
    return () => {
      const left = this.#pending.get(scope)!.filter((p) => p !== pending);
      if (left.length > 0) this.#pending.set(scope, left);
      else this.#pending.delete(scope);
      settle();
    };
  }

  /**
   * Scores candidates against held caches.
   * @param candidates a list for each cache; default: those that the requests brought
   * @returns logits f32 [candidates of all, tasks]
   * @throws LongerError ERR_SHAPE for another number of lists, ERR_DISPOSED for a cache that was released, ERR_DATA for one that another ranker holds, or naming request and feature
   */
  async score(caches: readonly CachedHistory[], candidates: readonly (CandidatesOf<S> | EncodedCandidates)[] = caches.map((c) => c.candidates), signal?: AbortSignal): Promise<Float32Array> {
    if (candidates.length !== caches.length) throw new LongerError('ERR_SHAPE', `${caches.length} caches and ${candidates.length} candidate lists were given`);
    const holdings = caches.map((c, i) => this.#own(c, i));
    const { schema } = this.ranker.model;
    const batch = packCandidates(schema, candidates.map((c, i) => encodedCandidates(schema, c, i)));
    const again = holdings.map((held) => this.cache.hold(held.item));
    try {
      const items = again.map((h) => h.item);
      const keys = this.#keys(items.map((i) => i.chain));
      const beside = layoutBeside(this.#graphs.config, keys, layoutCandidates(this.#graphs.config, batch));
      const [sizes, arrays] = [beside.sizes, beside.arrays as Map<string, RunArray>];
      Object.assign(sizes, this.#pools);
      for (const e of this.#graphs.single) arrays.set(`cache.${e.name}`, this.#joined(items, e));
      const logits = new Float32Array(batch.candidates * schema.tasks.length);
      const get = (name: string): RunArray | undefined => arrays.get(name) ?? keys.arrays.get(name) ?? this.#poolArrays.get(name);
      await this.#score.run(sizes, { get }, new Map([['logits', logits]]), { signal });
      return logits;
    } finally {
      for (const h of again) h.release();
    }
  }

  /** Makes every entry of this model unreachable: after its weights changed. */
  forget(): void {
    this.cache.drop(this.#scope);
  }

  dispose(): void {
    this[Symbol.dispose]();
  }

  /** The ranker itself stays, and a shared cache, without this model's entries. */
  [Symbol.dispose](): void {
    this.forget();
    if (this.#ownCache) this.cache.dispose();
    for (const plan of [this.#prefill, this.#score, this.#append]) plan?.dispose();
  }

  #keys(chains: readonly Chain[]): ModelInputs {
    const { config, paged } = this.#graphs;
    if (chains.length > 1 || config.kind !== 'longer') return layoutKeys(config, paged, chains);
    const chain = chains[0]!;
    let keys = this.#keysAlone.get(chain);
    if (!keys) this.#keysAlone.set(chain, (keys = layoutKeys(config, paged, chains)));
    return keys;
  }

  /** What a cache holds, which must be pages of this ranker. */
  #own(cache: CachedHistory, i: number): HeldItem {
    const place = `request ${i}`;
    if (!(cache instanceof Holding) || !cache.held.item.scope.startsWith(this.#scope))
      throw new LongerError('ERR_DATA', 'the cache is not one that this ranker holds', { place, remedy: 'Score with the PagedRanker whose hold gave it' });
    if (cache.held.released) throw new LongerError('ERR_DISPOSED', 'the cache was released', { place, remedy: 'Hold the request again' });
    return cache.held;
  }

  #wanted(request: EncodedRequest, owner = request.userKey): Wanted {
    return new Wanted(this.ranker.model.schema, this.#graphs.config, request, this.#scope + owner);
  }

  /** The request's own entry. */
  #there({ scope, hashes, content }: Wanted): CacheItem | undefined {
    for (const item of this.cache.ending(scope, hashes.at(hashes.last))) if (this.#equal(item.content, content)) return item;
    return undefined;
  }

  /** The same, held and counted. */
  #hit(w: Wanted): Holding | undefined {
    const item = this.#there(w);
    if (!item) return undefined;
    this.cache.count('hit');
    const reuse = { events: { kept: w.content.end - w.content.first, computed: 0 }, rows: { kept: item.chain.rows.asking.count, computed: 0 } };
    return new Holding('hit', reuse, w.request, this.cache.hold(item));
  }

  /** The entry that leaves least to compute, held. */
  #growth({ scope, hashes, content: now, window }: Wanted): Growth | undefined {
    if (!this.#append) return undefined;
    const config = this.#graphs.config as LongerConfig;
    for (const item of this.cache.candidates(scope, hashes)) {
      const { content: past, chain } = item;
      if (past.start > now.start || past.end < now.first) continue;
      const agreed = agreement(past, now, now.start);
      if (agreed <= now.first) continue;
      const held = heldRows(config, chain.window, window, agreed);
      if (held && held.known.from > window.first) return { from: this.cache.hold(item), held };
    }
    return undefined;
  }

  /** Whether all that the model reads is the same, bit for bit. */
  #equal(a: Content, b: Content): boolean {
    return a.first === b.first && a.start === b.start && a.end === b.end && this.#sameRequest(a, b) && agreement(a, b, b.start) === b.end;
  }

  #sameRequest(a: Content, b: Content): boolean {
    const { user, context, time } = this.#reads;
    return (!user || sameSide(a.user, b.user)) && (!context || sameSide(a.context, b.context)) && (!time || Object.is(a.time, b.time));
  }

  async #compute(wanted: readonly Wanted[], signal: AbortSignal | undefined): Promise<HeldItem[]> {
    const { schema } = this.ranker.model;
    const { config, paged } = this.#graphs;
    this.cache.reserve(wanted.reduce((n, w) => n + this.#pagesOf(w.rows), 0));
    const chains = wanted.map(({ window, rows }): Chain => ({
      window, rows, pages: new Map(paged.map((e) => [e.name, Int32Array.from({ length: pagesOf(rowsOf(rows, e), e.pageRows) }, () => this.cache.pool.take())])),
    }));
    // What grows attends over rows in int8: a prefill has to as well, or a grown cache would not be the bits of a cold one.
    if (this.#quantised && this.#append) {
      const nothing = wanted.map(({ window }): Held => ({ known: { from: window.first, rows: segmentsOf(config as LongerConfig, window).map(() => 0) }, asking: [] }));
      return this.#run(this.#append, wanted, chains, signal, () => layoutGrowth(schema, config as LongerConfig, paged, wanted.map((w) => w.request), chains, nothing, this.#pools));
    }
    return this.#run(this.#prefill, wanted, chains, signal, () => {
      const { sizes, arrays } = layoutHistory(config, packBatch(schema, wanted.map((w) => w.request), historyForm(config)));
      return { sizes, arrays: new Map<string, NumericArray>([...arrays, ...layoutRows('write', paged, chains)]) };
    });
  }

  /** @returns undefined where the pages in use, those that it would go on from among them, leave too few */
  async #grow(all: ReadonlyMap<Wanted, Growth>, signal: AbortSignal | undefined): Promise<HeldItem[] | undefined> {
    const [wanted, growth] = [[...all.keys()], [...all.values()]];
    const { paged } = this.#graphs;
    const plans = wanted.map((w, i) => paged.map((e) => grownPages(w.rows, growth[i]!, e)));
    if (!this.cache.makeRoom(plans.flat().reduce((n, p) => n + p.reduce((m, source) => m + (source.shared ? 0 : 1), 0), 0))) {
      for (const { from } of growth) from.release();
      return undefined;
    }
    const { pool } = this.cache;
    const copies: (readonly [from: number, to: number])[] = [];
    const chains = wanted.map(({ window, rows }, i): Chain => ({
      window, rows,
      pages: new Map(paged.map((e, j) => [e.name, Int32Array.from(plans[i]![j]!, ({ page, shared }) => {
        if (shared) return pool.share(page);
        const own = pool.take();
        if (page >= 0) copies.push([page, own]);
        return own;
      })])),
    }));
    return this.#run(this.#append!, wanted, chains, signal, () => {
      pool.copy(copies);
      return layoutGrowth(this.ranker.model.schema, this.#graphs.config as LongerConfig, paged, wanted.map((w) => w.request), chains, growth.map((g) => g.held), this.#pools);
    });
  }

  /** Runs a plan that fills the chains, whose pages go back where it fails. */
  async #run(plan: Plan, wanted: readonly Wanted[], chains: readonly Chain[], signal: AbortSignal | undefined, layout: () => { sizes: Record<string, number>; arrays: Map<string, NumericArray> }): Promise<HeldItem[]> {
    const { single, paged } = this.#graphs;
    const { pool } = this.cache;
    try {
      const { sizes, arrays } = layout();
      const rows = new Map(single.map((e) => [e.name, new arrayTypes[e.dtype](sizeOf(e.rows, sizes) * e.width)]));
      const outputs = new Map<string, RunArray>([...rows].map(([name, a]) => [`cache.${name}`, a]));
      for (const e of paged) outputs.set(`pool.${e.name}`, pool[e.dtype]);
      await plan.run({ ...sizes, ...this.#pools }, arrays, outputs, { signal });
      return wanted.map((w, r) => this.cache.insert({
        scope: w.scope, content: kept(w.content), chain: chains[r]!,
        single: new Map(single.map((e) => [e.name, rows.get(e.name)!.slice(r * e.width, (r + 1) * e.width)])),
      }, w.hashes));
    } catch (error) {
      for (const c of chains) for (const pages of c.pages.values()) for (const page of pages) pool.release(page);
      throw error;
    }
  }

  #pagesOf(rows: CacheRows): number {
    return this.#graphs.paged.reduce((n, e) => n + pagesOf(rowsOf(rows, e), e.pageRows), 0);
  }

  #joined(items: readonly CacheItem[], { name, width, dtype }: { readonly name: string; readonly width: number; readonly dtype: DTypeName }): NumericArray {
    if (items.length === 1) return items[0]!.single.get(name)!;
    const all = new arrayTypes[dtype](items.length * width);
    items.forEach((item, i) => { all.set(item.single.get(name)!, i * width); });
    return all;
  }
}
