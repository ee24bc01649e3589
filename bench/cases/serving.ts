import { benchPreset, benchRequests, type BenchPreset } from '../../lib/bench/presets.ts';
import { type Contestant, race } from '../../lib/bench/race.ts';
import { ServeSession } from '../../lib/bench/sessions.ts';
import { type Bench, precisions } from '../context.ts';

const counts = [1, 16, 1000, 1024] as const;

/** What a serving process does, by name; shared with the comparison against a peer. */
export async function servingContestants(s: ServeSession, history: number): Promise<Contestant[]> {
  const one = benchRequests([history]);
  const cache = await s.ranker.prefill(one);
  const candidates = new Map(counts.map((c) => [c, benchRequests([1], c, 2)]));
  return [
    { name: 'prefill', run: async () => { await s.ranker.prefill(one); } },
    ...counts.map((c) => ({ name: `C=${c}`, run: async () => { await s.ranker.score(cache, candidates.get(c)!); } })),
    { name: 'uncached', run: async () => { await s.full(one); } },
  ];
}

export const servingBench: Bench = {
  name: 'serving',
  about: 'prefill, cached candidates and the uncached forward pass, one and two threads, fp32 and bf16',
  async *run({ presets, threads, seconds }) {
    for (const name of presets)
      for (const precision of precisions) {
        const p = benchPreset(name);
        const sessions = threads.map((t) => ({ t, s: new ServeSession(p, { threads: t, precision }) }));
        const many = benchRequests(Array.from({ length: 16 }, () => p.model.maxHistory));
        const contestants: Contestant[] = [];
        for (const { t, s } of sessions) {
          for (const c of await servingContestants(s, p.model.maxHistory)) contestants.push({ ...c, name: `${c.name} ${t}` });
          contestants.push({ name: `batch ${t}`, run: async () => { await s.ranker.prefill(many); } });
        }
        const r = await race(contestants, 1.5 * seconds);
        for (const { t, s } of sessions) {
          const at = (what: string): number => r.seconds.get(`${what} ${t}`)!;
          const base = { bench: 'serving', config: name, threads: t, precision };
          yield { ...base, name: 'prefill of one user', value: 1000 * at('prefill'), unit: 'ms' };
          yield { ...base, name: 'prefill in batches of 16', value: 16 / at('batch'), unit: 'users/s' };
          for (const c of counts) yield { ...base, name: `cached candidates, C=${c}`, value: c / at(`C=${c}`), unit: '/s' };
          yield { ...base, name: 'uncached, a pair at a time', value: 1 / at('uncached'), unit: '/s' };
          yield { ...base, name: 'cached C=1000 to uncached', value: 1000 / at('C=1000'), unit: '/s', against: { name: 'uncached', value: 1 / at('uncached') }, ratio: 1000 * r.ratio(`uncached ${t}`, `C=1000 ${t}`),
            ...(name === 'P' ? { bar: { is: '>=' as const, value: 60 } } : {}) };
          if (t === 2 && threads.includes(1))
            for (const what of ['prefill', 'C=1024'])
              yield { ...base, name: `two threads to one, ${what}`, value: 1000 * at(what), unit: 'ms', ratio: r.ratio(`${what} 1`, `${what} 2`), bar: { is: '>=', value: 1.8 } };
          s[Symbol.dispose]();
        }
      }
  },
};

/** So small that its time is the call: packing, crossing into the addon, the thread hand-over. */
const tiny: BenchPreset = (() => {
  const p = benchPreset('S');
  return { name: 'tiny', requests: 1, model: { ...p.model, maxHistory: 4, width: 4, merge: 1, heads: 1, inner: { blocks: 0, heads: 1 }, queries: { kind: 'recent', k: 1 }, selfLayers: 0, head: { kind: 'pooled', hidden: [4] } } };
})();

export const overheadBench: Bench = {
  name: 'overhead',
  about: 'time of a call on a model so small that nothing else counts',
  async *run({ threads, seconds }) {
    for (const t of threads) {
      using s = new ServeSession(tiny, { threads: t });
      const r = await race((await servingContestants(s, 4)).slice(0, 2), seconds / 4);
      for (const [name, what] of [['prefill', 'prefill'], ['score of one candidate', 'C=1']] as const)
        yield { bench: 'overhead', name, config: 'tiny', threads: t, precision: 'fp32', value: 1e6 * r.seconds.get(what)!, unit: 'us a call' };
    }
  },
};
