import { benchBatch, benchPreset, formulaFlops, raggedLengths } from '../../lib/bench/presets.ts';
import { race } from '../../lib/bench/race.ts';
import { type Precision, TrainSession } from '../../lib/bench/sessions.ts';
import { timedStep } from '../../lib/cli/profile.ts';
import type { Batch } from '../../lib/data/batch.ts';
import { type Bench, precisions } from '../context.ts';
import { roofs } from '../native.ts';

const equal = (count: number, length: number): number[] => Array.from({ length: count }, () => length);
const step = (session: TrainSession, batch: Batch) => async (): Promise<void> => { await session.trainer.train(batch); };
const session = (name: string, threads: number, precision: Precision = 'fp32', more: object = {}): TrainSession =>
  new TrainSession(benchPreset(name), { threads, ...(precision === 'bf16' ? { precision } : {}), ...more });

/** Where a step's time goes: the largest operations with their share, and the rate of those that count FLOPs. */
async function whereTimeGoes(s: TrainSession, batch: Batch): Promise<string> {
  const { sizes } = s.trainer.model.inputs(batch);
  const flops = new Map<string, number>();
  for (const node of s.trainer.compiled.graph.nodes) flops.set(node.op.name, (flops.get(node.op.name) ?? 0) + (node.op.flops?.(node, sizes) ?? 0));
  return (await timedStep(s.trainer, batch)).slice(0, 7).map((o) => {
    const work = flops.get(o.op) ?? 0;
    return `${o.op} ${(100 * o.share).toFixed(0)} %${work > 0 ? ` at ${(work / o.milliseconds / 1e6).toFixed(0)}` : ''}`;
  }).join(', ');
}

export const trainingBench: Bench = {
  name: 'training',
  about: 'whole training step against the multiply-add peak, one and two threads',
  async *run({ presets, threads, seconds }) {
    for (const name of presets) {
      const p = benchPreset(name);
      const batch = benchBatch(p, equal(p.requests, p.model.maxHistory));
      const model = 3e-9 * p.requests * formulaFlops(p.model, p.model.maxHistory, 1);
      const contestants = threads.flatMap((t) => precisions.map((precision) => ({ t, precision, s: session(name, t, precision) })));
      const peak = new Map<number, number[]>();
      const label = (t: number, precision: string): string => `${precision} ${t}`;
      const result = await race(contestants.map(({ t, precision, s }) => ({
        name: label(t, precision),
        run: async () => {
          if (precision === 'fp32') peak.set(t, [...(peak.get(t) ?? []), (await roofs(t, 0.03, true)).f32]);
          const from = performance.now();
          await s.trainer.train(batch);
          return (performance.now() - from) / 1000;
        },
      })), seconds);
      for (const { t, precision, s } of contestants) {
        const time = result.seconds.get(label(t, precision))!;
        const top = peak.get(t)!.sort((a, b) => a - b)[peak.get(t)!.length >> 1]!;
        const counted = 1e-9 * s.trainer.compiled.graph.flops(s.trainer.model.inputs(batch).sizes);
        const base = { bench: 'training', config: `${name} batch ${p.requests}`, threads: t, precision } as const;
        yield { ...base, name: 'requests', value: p.requests / time, unit: '/s', note: `${(1000 * time).toFixed(1)} ms a step` };
        yield { ...base, name: 'model FLOPs', value: model / time, unit: 'GFLOP/s', against: { name: 'fp32 peak', value: top }, ratio: model / time / top,
          ...(name === 'P' && precision === 'fp32' ? { bar: { is: '>=' as const, value: 0.65 } } : {}),
          note: `counted op by op ${(counted / time).toFixed(0)} GFLOP/s; ${await whereTimeGoes(s, batch)}` };
        if (precision === 'bf16')
          yield { ...base, name: 'bf16 to fp32', value: time, unit: 's', against: { name: 'fp32 s', value: result.seconds.get(label(t, 'fp32'))! }, ratio: result.ratio(label(t, 'fp32'), label(t, 'bf16')),
            ...(name === 'P' ? { bar: { is: '>=' as const, value: 1.6 } } : {}) };
      }
      if (threads.includes(1) && threads.includes(2))
        for (const precision of precisions)
          yield { bench: 'training', name: 'two threads to one', config: `${name} batch ${p.requests}`, threads: 2, precision, value: result.seconds.get(label(2, precision))!, unit: 's',
            ratio: result.ratio(label(1, precision), label(2, precision)), bar: { is: '>=', value: 1.8 } };
      for (const { s } of contestants) s[Symbol.dispose]();
    }
  },
};

export const raggedBench: Bench = {
  name: 'ragged',
  about: 'ragged lengths against equal ones of as many events; sixteen candidates against one',
  async *run({ seconds }) {
    const p = benchPreset('P');
    const lengths = raggedLengths(p.requests, p.model.maxHistory);
    const events = lengths.reduce((a, b) => a + b, 0);
    using s = session('P', 1);
    const mean = Math.floor(events / p.requests);
    const same = equal(p.requests, mean).map((n, i) => n + (i < events - mean * p.requests ? 1 : 0));
    const full = equal(p.requests, p.model.maxHistory);
    const flops = (list: readonly number[]): number => list.reduce((sum, n) => sum + formulaFlops(p.model, n, 1), 0);
    const r = await race([
      { name: 'ragged', run: step(s, benchBatch(p, lengths)) }, { name: 'equal', run: step(s, benchBatch(p, same)) },
      { name: 'one', run: step(s, benchBatch(p, full, 1)) }, { name: 'sixteen', run: step(s, benchBatch(p, full, 16)) },
    ], 1.5 * seconds);
    const base = { config: `P batch ${p.requests}`, threads: 1, precision: 'fp32' as const };
    yield { bench: 'ragged', ...base, name: 'time per event, uniform 1..L', value: (1e9 * r.seconds.get('ragged')!) / events, unit: 'ns', against: { name: `equal length ${mean}`, value: (1e9 * r.seconds.get('equal')!) / events },
      ratio: r.ratio('ragged', 'equal'), bar: { is: '<=', value: 1.1 }, note: `as many requests and events in both batches; the ragged one needs ${(flops(lengths) / flops(same)).toFixed(2)} of the FLOPs, short histories having fewer queries` };
    yield { bench: 'ragged', ...base, name: '16 candidates a request', value: 1000 * r.seconds.get('sixteen')!, unit: 'ms', against: { name: '1 candidate', value: 1000 * r.seconds.get('one')! },
      ratio: r.ratio('sixteen', 'one'), bar: { is: '<=', value: 1.25 } };
  },
};

export const recomputeBench: Bench = {
  name: 'recompute',
  about: 'recompute policies: arena and time of a step',
  async *run({ seconds }) {
    const p = benchPreset('P');
    const batch = benchBatch(p, equal(p.requests, p.model.maxHistory));
    for (const precision of precisions) {
      const plain = session('P', 1, precision);
      const whole = plain.promised(batch);
      const policies = { none: plain, selective: session('P', 1, precision, { recompute: 'selective' }), block: session('P', 1, precision, { recompute: 'block' }) };
      const r = await race(Object.entries(policies).map(([name, s]) => ({ name, run: step(s, batch) })), seconds);
      for (const [name, s] of Object.entries(policies)) {
        const arena = s.promised(batch);
        const base = { bench: 'recompute', config: `P batch ${p.requests}`, threads: 1, precision } as const;
        yield { ...base, name: `arena, ${name}`, value: arena / 1e6, unit: 'MB', against: { name: 'none MB', value: whole / 1e6 }, ratio: arena / whole, ...(name === 'block' ? { bar: { is: '<=' as const, value: 0.4 } } : {}) };
        if (name === 'none') yield { ...base, name: 'step memory', value: arena / 1e6, unit: 'MB', bar: { is: '<=', value: 250 }, note: 'a well-written PyTorch peer: 466' };
        if (name === 'block') yield { ...base, name: 'step memory, block', value: arena / 1e6, unit: 'MB', bar: { is: '<=', value: 120 }, note: 'a well-written PyTorch peer with checkpointing: 238' };
        yield { ...base, name: `time, ${name}`, value: 1000 * r.seconds.get(name)!, unit: 'ms', against: { name: 'none ms', value: 1000 * r.seconds.get('none')! }, ratio: r.ratio(name, 'none'),
          ...(name === 'block' ? { bar: { is: '<=' as const, value: 1.35 } } : {}) };
        s[Symbol.dispose]();
      }
    }
  },
};
