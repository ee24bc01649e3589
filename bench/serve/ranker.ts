import { median, race, type Contestant } from '../../lib/bench/race.ts';
import { fullLogits } from '../../lib/bench/sessions.ts';
import { type ModelConfig, presets } from '../../lib/model/config.ts';
import { isKeyOrValue } from '../../lib/model/longer.ts';
import { anchorCount } from '../../lib/model/visibility.ts';
import { fullPlan, ModelDescription } from '../../lib/model/model.ts';
import { Plan, State } from '../../lib/native/plan.ts';
import { PagedRanker } from '../../lib/rank/paged_ranker.ts';
import { Ranker } from '../../lib/rank/ranker.ts';
import { encodeRequest, type EncodedRequest } from '../../lib/schema/encode.ts';
import type { Schema } from '../../lib/schema/schema.ts';
import { MemoryHistoryStore } from '../../lib/serve/history_store.ts';
import type { RankRequest } from '../../lib/serve/rank_call.ts';
import { RankService } from '../../lib/serve/rank_service.ts';
import type { BenchRecord } from '../record.ts';
import type { Subject } from './subject.ts';
import { quantile } from './load.ts';
import { Traffic } from './traffic.ts';

/** Pairs of the naive way that are scored together: as many as the uncached path would batch. */
const naiveBatch = 20;

function requestOf(schema: Schema, events: number, candidates: number, seed = 1): EncodedRequest {
  const traffic = new Traffic(schema);
  return encodeRequest(schema, { ...traffic.user(seed, events), time: traffic.now, candidates: traffic.candidates(seed, candidates) } as never);
}

/** Cut to one candidate a request: each reads the history anew. */
function pairsOf(schema: Schema, events: number): EncodedRequest[] {
  return Array.from({ length: naiveBatch }, (_, i) => requestOf(schema, events, 1, i + 1));
}

/** What the cache is worth: requests a second without a history, with one read for every candidate, read once a request, and cached. */
export async function* cacheTable({ ranker, runtime, events, record: of }: Subject, seconds: number): AsyncIterable<BenchRecord> {
  const { model } = ranker;
  const { schema } = model;
  const base: ModelConfig = { ...presets.base(), maxHistory: model.config.maxHistory, width: model.config.width };
  const baseModel = new ModelDescription(schema, base);
  const baseState = new State(baseModel.layout.stores());
  baseModel.initialise(baseState, 1);
  using baseRanker = new Ranker(baseModel, baseState, runtime, { owned: [baseState] });
  using pages = new PagedRanker(ranker);
  using naive = fullPlan(model, ranker.state, runtime, ranker.precision);
  const pairs = pairsOf(schema, events);
  const counts = [10, 100, 500, 1000];
  const contestants: Contestant[] = [{ name: 'pairs', run: async () => { await fullLogits(naive, model, pairs); } }];
  const firsts = new Map<number, number[]>();
  for (const c of counts) {
    const request = requestOf(schema, events, c);
    // An owner of its own: the entry that is held is not the one that is made anew.
    const [cache] = await pages.hold([request], { owners: [`cached ${c}`] });
    const bare = await baseRanker.prefill([request]);
    const mine: number[] = [];
    firsts.set(c, mine);
    contestants.push(
      { name: `none ${c}`, run: async () => { await baseRanker.score(bare); } },
      { name: `first ${c}`, run: async () => {
        const from = performance.now();
        const [made] = await pages.hold([request], { owners: [`first ${c}, ${mine.length}`] });
        await pages.score([made!]);
        mine.push(performance.now() - from);
        made!.release();
      } },
      { name: `cached ${c}`, run: async () => { await pages.score([cache!]); } },
    );
  }
  const r = await race(contestants, seconds);
  const at = (what: string): number => r.seconds.get(what)!;
  const record = { bench: 'cache', ...of } as const;
  const pair = at('pairs') / naiveBatch;
  for (const c of counts) {
    const none = at(`none ${c}`);
    const lost = (time: number): string => `${(100 * (none / time - 1)).toFixed(1)} %`;
    if (c !== 1000) {
      yield { ...record, name: `C=${c}, no history`, value: 1 / none, unit: 'requests/s' };
      for (const [what, time] of [['a history read for every candidate', pair * c], ['read once a request', at(`first ${c}`)], ['cached', at(`cached ${c}`)]] as const)
        yield { ...record, name: `C=${c}, ${what}`, value: 1 / time, unit: 'requests/s', note: `throughput ${lost(time)} of no history` };
    }
    if (c === 10 || c === 500) continue;
    yield {
      ...record, name: `C=${c}, second call`, value: 1 / at(`cached ${c}`), unit: 'requests/s', against: { name: 'uncached', value: 1 / (pair * c) },
      ratio: (pair * c) / at(`cached ${c}`), bar: { is: '>=', value: c === 100 ? 10 : 40 }, note: `uncached: pairs with a history each, ${naiveBatch} a batch`,
    };
    yield { ...record, name: `C=${c}, first call, p99`, value: quantile(firsts.get(c)!, 0.99), unit: 'ms', note: `p50 ${(1000 * at(`first ${c}`)).toFixed(1)} ms, ${firsts.get(c)!.length} calls` };
  }
}

/**
 * What a cached `rank` takes above its kernels, which are what its plan's run takes in the same call: calls in turns of 40, the first 5 of a turn left out.
 */
export async function* overhead({ name, directory, ranker, runtime, events, record: of }: Subject, seconds: number): AsyncIterable<BenchRecord> {
  const { schema } = ranker.model;
  const traffic = new Traffic(schema);
  const { history, ...rest } = traffic.user(1, events);
  const store = new MemoryHistoryStore(schema, { maxEvents: Math.max(10_000, events) });
  await store.replace('u', history);
  const service = new RankService(await Ranker.open(directory, { runtime }), name, { timeout: 600_000 }, { histories: store });
  using clock = new PlanClock();
  for (const c of [1, 100]) {
    const rank = { ...rest, time: traffic.now, candidates: traffic.candidates(1, c) };
    const ways = { stored: { ...rank, userId: 'u' }, given: { ...rank, history } };
    const taken = { stored: [] as number[], given: [] as number[], kernels: [] as number[] };
    const until = performance.now() + (seconds * 1000) / 2;
    for (let turn = 0; turn < 3 || performance.now() < until; ++turn)
      for (const way of ['stored', 'given'] as const)
        for (let i = 0; i < 40; ++i) {
          clock.reset();
          const from = performance.now();
          await service.rank(ways[way] as unknown as RankRequest);
          if (turn === 0 || i < 5) continue;
          taken[way].push(1000 * (performance.now() - from - clock.milliseconds));
          taken.kernels.push(1000 * clock.milliseconds);
        }
    const record = { bench: 'rank', ...of, unit: 'us', against: { name: 'kernels, us', value: median(taken.kernels) } } as const;
    yield { ...record, name: `C=${c}, stored history, above the kernels, p50`, value: median(taken.stored), bar: { is: '<=', value: 100 } };
    yield { ...record, name: `C=${c}, history given as ${events} objects`, value: median(taken.given) };
  }
  await service.close();
}

/** Counts the time between the start of plans' runs and their results. */
class PlanClock implements Disposable {
  readonly #run = Object.getOwnPropertyDescriptor(Plan.prototype, 'run')!;
  milliseconds = 0;

  constructor() {
    const run = this.#run.value as Plan['run'];
    const add = (milliseconds: number): void => void (this.milliseconds += milliseconds);
    Plan.prototype.run = async function (this: Plan, ...given) {
      const from = performance.now();
      try {
        return await run.apply(this, given);
      } finally {
        add(performance.now() - from);
      }
    };
  }

  reset(): void {
    this.milliseconds = 0;
  }

  [Symbol.dispose](): void {
    Object.defineProperty(Plan.prototype, 'run', this.#run);
  }
}

/** Bytes of keys and values of a user against the paper's 2 (n + N k) D numbers (spec section 6). */
export async function* cacheBytes({ ranker, events, record }: Subject): AsyncIterable<BenchRecord> {
  const { config, schema } = ranker.model;
  if (config.kind !== 'longer') return;
  const request = requestOf(schema, events, 0);
  const { arrays } = await ranker.prefill([request]);
  const bytes = [...arrays].reduce((n, [name, a]) => n + (isKeyOrValue(name) ? a.byteLength : 0), 0);
  using pages = new PagedRanker(ranker);
  await pages.hold([request]);
  const { bytes: paged, bytesBeside } = pages.cache.stats();
  const n = Math.ceil(Math.min(events, config.maxHistory) / config.merge);
  const k = 'k' in config.queries ? Math.min(n, config.queries.k) : n;
  const paper = 2 * (n + config.selfLayers * k) * config.width * config.merge * (ranker.precision === 'bf16' ? 2 : 4);
  yield {
    bench: 'bytes', ...record, name: 'keys and values of a user', value: bytes / 1024, unit: 'KiB',
    against: { name: 'paper, KiB', value: paper / 1024 }, ratio: bytes / paper, bar: { is: '<=', value: 1.05 }, note: `with ${anchorCount(config)} user-side globals a layer; in pages: ${(paged / 1024).toFixed(0)} KiB, and ${(bytesBeside / 1024).toFixed(0)} KiB beside them`,
  };
}
