import { benchPreset, benchRequests } from '../../lib/bench/presets.ts';
import { race } from '../../lib/bench/race.ts';
import { ServeSession } from '../../lib/bench/sessions.ts';
import { PagedRanker } from '../../lib/rank/paged_ranker.ts';
import { type Bench, type Context, precisions } from '../context.ts';
import type { BenchRecord } from '../record.ts';

type Figures = Pick<BenchRecord, 'name' | 'value' | 'against' | 'ratio'>;

/** The figures of a call, in milliseconds, for every preset, number of threads and precision. */
async function* each(bench: string, { presets, threads }: Context, figures: (session: ServeSession, maxHistory: number) => AsyncIterable<Figures>): AsyncIterable<BenchRecord> {
  for (const name of presets)
    for (const t of threads)
      for (const precision of precisions) {
        const preset = benchPreset(name);
        using session = new ServeSession(preset, { threads: t, precision });
        for await (const f of figures(session, preset.model.maxHistory)) yield { bench, config: name, threads: t, precision, unit: 'ms', ...f };
      }
}

export const onceBench: Bench = {
  name: 'once',
  about: 'a call whose history is used once: by the plain forward pass, against filling pages and scoring from them',
  run: (context) => each('once', context, async function* (s, maxHistory) {
    using pages = new PagedRanker(s.ranker, { bytes: 64 * 2 ** 20 });
    for (const events of [maxHistory, Math.ceil(maxHistory / 8)])
      for (const candidates of [1, 16, 100]) {
        const [request] = benchRequests([events], candidates);
        const r = await race([
          { name: 'plain', run: async () => { await s.ranker.scoreOnce([request!]); } },
          { name: 'pages', run: async () => {
            pages.forget();
            const [held] = await pages.hold([request!]);
            await pages.score([held!]);
            held!.release();
          } },
        ], context.seconds);
        yield { name: `${events} events, C = ${candidates}`, value: 1000 * r.seconds.get('plain')!, against: { name: 'by pages, ms', value: 1000 * r.seconds.get('pages')! }, ratio: r.ratio('plain', 'pages') };
      }
  }),
};

export const explainBench: Bench = {
  name: 'explain',
  about: '10 events told of each candidate, against a prefill and a score',
  run: (context) => each('explain', context, async function* (s, maxHistory) {
    for (const candidates of [10, 100]) {
      const [request] = benchRequests([maxHistory], candidates);
      const r = await race([
        { name: 'explained', run: async () => { await s.ranker.explain([request!], 10); } },
        { name: 'scored', run: async () => { await s.ranker.score(await s.ranker.prefill([request!])); } },
      ], context.seconds);
      yield { name: `C = ${candidates}`, value: 1000 * r.seconds.get('explained')!, against: { name: 'scored, ms', value: 1000 * r.seconds.get('scored')! }, ratio: r.ratio('explained', 'scored') };
    }
  }),
};

export const int8Bench: Bench = {
  name: 'int8',
  about: 'keys and values of a cached history in int8, against those of the precision: time of a score',
  run: (context) => each('int8', context, async function* (s, maxHistory) {
    using int8 = new PagedRanker(s.ranker, { bytes: 64 * 2 ** 20, cachePrecision: 'int8' });
    using plain = new PagedRanker(s.ranker, { bytes: 64 * 2 ** 20 });
    for (const candidates of [1, 100, 1000]) {
      const requests = benchRequests([maxHistory], candidates);
      const [few, many] = [await int8.hold(requests), await plain.hold(requests)];
      const r = await race([
        { name: 'int8', run: async () => { await int8.score(few); } },
        { name: 'plain', run: async () => { await plain.score(many); } },
      ], context.seconds);
      yield { name: `C = ${candidates}`, value: 1000 * r.seconds.get('int8')!, against: { name: 'as computed, ms', value: 1000 * r.seconds.get('plain')! }, ratio: r.ratio('int8', 'plain') };
    }
  }),
};
