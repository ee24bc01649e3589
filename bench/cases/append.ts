import { benchPreset, benchRequest, benchSchema } from '../../lib/bench/presets.ts';
import { race } from '../../lib/bench/race.ts';
import { ServeSession } from '../../lib/bench/sessions.ts';
import type { LongerConfig } from '../../lib/model/config.ts';
import { PagedRanker } from '../../lib/rank/paged_ranker.ts';
import { encodeRequest, type EncodedRequest } from '../../lib/schema/encode.ts';
import { type Bench, precisions } from '../context.ts';

/** What a model must declare so that its cache can grow (docs/model.md, "Forms of a history"). */
const appendSafe = { alignment: 'oldest', position: 'ordinal', visibility: 'paper', globals: { uid: null, cls: 0 } } satisfies Partial<LongerConfig>;
const newEvents = 8;
/** Successive histories that a paged cache grows through. */
const steps = 400;

/** The request when it had so many events. */
function until(r: EncodedRequest, events: number): EncodedRequest {
  return { ...r, events, eventTime: r.eventTime.subarray(0, events), event: { ...r.event, ids: new Map([...r.event.ids].map(([name, ids]) => [name, ids.subarray(0, events)])) } };
}

export const appendBench: Bench = {
  name: 'append',
  about: 'a cache whose window is full grows by 8 events, against a prefill of the grown history',
  async *run({ presets, threads, seconds }) {
    for (const name of presets)
      for (const window of ['full', 'banded'] as const)
        for (const precision of precisions)
          for (const t of threads) {
            const p = benchPreset(name);
            const model = { ...p.model, ...appendSafe, window, timeGap: { ...p.model.timeGap, to: 'previous' as const } };
            using s = new ServeSession({ ...p, model }, { threads: t, precision });
            const request = benchRequest(1, model.maxHistory + 2 * model.merge + 1, 0);
            const cache = await s.ranker.prefill([encodeRequest(benchSchema, request)]);
            const time = request.time + 60;
            const growth = [{ time, history: Array.from({ length: newEvents }, (_, i) => ({ item: i, action: 0, time: request.time + i })) }];
            const long = encodeRequest(benchSchema, benchRequest(1, model.maxHistory + 2 * model.merge + newEvents * steps, 0));
            using pages = new PagedRanker(s.ranker, { bytes: 512 * 2 ** 20 });
            const { requests: grown } = await s.ranker.append(cache, growth);
            let at = steps;
            const grow = async (): Promise<number> => {
              if (at === steps) {
                pages.forget();
                at = 0;
                for (const h of await pages.hold([until(long, long.events - newEvents * steps)])) h.release();
              }
              const next = until(long, long.events - newEvents * (steps - ++at));
              const from = performance.now();
              const [held] = await pages.hold([next]);
              const seconds = (performance.now() - from) / 1000;
              if (held!.outcome !== 'partial') throw new Error(`expected a partial hit, got a ${held!.outcome}`);
              held!.release();
              return seconds;
            };
            const r = await race([
              { name: 'prefill', run: async () => { await s.ranker.prefill(grown); } },
              { name: 'append', run: async () => { await s.ranker.append(cache, growth); } },
              { name: 'pages', run: grow },
            ], seconds);
            for (const [way, label] of [['append', ''], ['pages', ', in pages']] as const) yield {
              bench: 'append', name: `8 events, ${window} window${label}`, config: name, threads: t, precision, value: 1000 * r.seconds.get(way)!, unit: 'ms',
              against: { name: 'prefill, ms', value: 1000 * r.seconds.get('prefill')! }, ratio: r.ratio(way, 'prefill'),
              ...(name === 'X' ? { bar: { is: '<=' as const, value: window === 'banded' ? 0.03 : 0.6 } } : {}),
            };
          }
  },
};
