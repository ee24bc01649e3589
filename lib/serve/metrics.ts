import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { RankServiceStats } from './rank_call.ts';
import type { RankService } from './rank_service.ts';

/** Prometheus metrics of a service: what it counts itself, read when asked, the HTTP answers, and those of the process. */
export class Metrics {
  readonly registry = new Registry();
  readonly #seconds: Histogram<'route' | 'status'>;

  constructor(service: RankService) {
    const { registry } = this;
    const registers = [registry];
    collectDefaultMetrics({ register: registry });
    const read = (type: typeof Counter | typeof Gauge, name: string, help: string, value: (s: RankServiceStats) => number): void => {
      new type({
        name: `longer_${name}`, help, registers,
        collect() {
          this.reset();
          this.inc(value(service.stats()));
        },
      });
    };
    read(Counter, 'calls_total', 'Calls taken', (s) => s.calls);
    read(Counter, 'refused_total', 'Calls refused because the queue was full', (s) => s.refused);
    read(Counter, 'late_total', 'Calls dropped at their deadline', (s) => s.late);
    read(Counter, 'aborted_total', 'Calls that the caller gave up', (s) => s.aborted);
    read(Counter, 'failed_total', 'Calls that failed', (s) => s.failed);
    read(Counter, 'batches_total', 'Batches scored', (s) => s.batches);
    read(Counter, 'candidates_total', 'Candidates scored', (s) => s.rows);
    read(Counter, 'prefills_total', 'Histories prefilled', (s) => s.prefills);
    read(Counter, 'appends_total', 'Caches made from one of a shorter history', (s) => s.appends);
    read(Counter, 'plain_total', 'Calls scored without a cache', (s) => s.plain);
    read(Counter, 'swaps_total', 'Models swapped in', (s) => s.swaps);
    read(Gauge, 'waiting_calls', 'Calls in the queue', (s) => s.waitingCalls);
    read(Gauge, 'waiting_candidates', 'Candidates in the queue', (s) => s.waitingRows);
    read(Counter, 'cache_hits_total', 'Caches found', (s) => s.cache.hits);
    read(Counter, 'cache_misses_total', 'Caches not found', (s) => s.cache.misses);
    read(Counter, 'cache_evictions_total', 'Caches evicted for room', (s) => s.cache.evictions);
    read(Counter, 'cache_expired_total', 'Caches that were too old', (s) => s.cache.expired);
    read(Counter, 'cache_partial_hits_total', 'Caches of shorter histories gone on from', (s) => s.cache.partialHits);
    read(Gauge, 'cache_pages', 'Pages of caches', (s) => s.cache.pages);
    read(Gauge, 'cache_pages_used', 'Pages in use', (s) => s.cache.pagesUsed);
    read(Gauge, 'cache_bytes', 'Bytes of the pages in use', (s) => s.cache.bytes);
    read(Gauge, 'cache_bytes_beside', 'Bytes that caches keep beside pages', (s) => s.cache.bytesBeside);
    read(Gauge, 'cache_entries', 'Caches', (s) => s.cache.entries);
    read(Gauge, 'shadow_mean_difference', 'Mean difference of probabilities between shadow and served model', (s) => s.shadow.meanDifference);
    read(Gauge, 'shadow_max_difference', 'Largest difference of probabilities', (s) => s.shadow.maxDifference);
    read(Gauge, 'shadow_scores', 'Scores compared since the shadow was set', (s) => s.shadow.scores);
    this.#seconds = new Histogram({
      name: 'longer_http_seconds', help: 'Time to answer', labelNames: ['route', 'status'], registers,
      buckets: [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1, 2, 4],
    });
  }

  /** @param route the pattern, never the address: addresses hold users */
  answered(route: string, status: number, seconds: number): void {
    this.#seconds.observe({ route, status: String(status) }, seconds);
  }
}
