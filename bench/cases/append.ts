import { benchPreset, benchRequest, benchSchema } from '../../lib/bench/presets.ts';
import { race } from '../../lib/bench/race.ts';
import { ServeSession } from '../../lib/bench/sessions.ts';
import type { LongerConfig } from '../../lib/model/config.ts';
import { encodeRequest } from '../../lib/schema/encode.ts';
import { type Bench, precisions } from '../context.ts';

/** What a model must declare so that its cache can grow (docs/model.md, "Forms of a history"). */
const appendSafe = { alignment: 'oldest', position: 'ordinal', visibility: 'paper', globals: { uid: null, cls: 0 } } satisfies Partial<LongerConfig>;
const newEvents = 8;

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
            const { requests: grown } = await s.ranker.append(cache, growth);
            const r = await race([
              { name: 'prefill', run: async () => { await s.ranker.prefill(grown); } },
              { name: 'append', run: async () => { await s.ranker.append(cache, growth); } },
            ], seconds);
            yield {
              bench: 'append', name: `8 events, ${window} window`, config: name, threads: t, precision, value: 1000 * r.seconds.get('append')!, unit: 'ms',
              against: { name: 'prefill, ms', value: 1000 * r.seconds.get('prefill')! }, ratio: r.ratio('append', 'prefill'),
              ...(name === 'X' ? { bar: { is: '<=' as const, value: window === 'banded' ? 0.03 : 0.6 } } : {}),
            };
          }
  },
};
