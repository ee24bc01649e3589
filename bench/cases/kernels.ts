import type { Bench } from '../context.ts';
import { native, roofs } from '../native.ts';

interface Race {
  readonly results: readonly { name: string; seconds: number; gflops: number; toFirst: number }[];
}

export const roofsBench: Bench = {
  name: 'roofs',
  about: 'multiply-add peak in fp32 and bf16, copy rate, read rate of what a score reads',
  async *run({ threads, seconds }) {
    for (const t of threads) {
      const r = await roofs(t, seconds / 4, false);
      const base = { bench: 'roofs', config: r.isa, threads: t };
      yield { ...base, name: 'multiply-add peak', precision: 'fp32', value: r.f32, unit: 'GFLOP/s' };
      if (r.bf16 > 0) yield { ...base, name: 'multiply-add peak', precision: 'bf16', value: r.bf16, unit: 'GFLOP/s' };
      yield { ...base, name: 'copy, read + write', precision: 'fp32', value: r.copy, unit: 'GB/s' };
      yield { ...base, name: 'reading 10 MiB again and again', precision: 'fp32', value: r.read, unit: 'GB/s' };
    }
  },
};

export const linearBench: Bench = {
  name: 'linear',
  about: 'linear layers of 8,192 rows against the peak, oneDNN and libxsmm',
  async *run({ threads, seconds, quick }) {
    for (const precision of ['fp32', 'bf16'] as const)
      for (const t of threads) {
        if (precision === 'bf16' && (await roofs(t, 0.01, true)).bf16 === 0) continue;
        const options = ['--seconds', String(seconds / 10), ...(quick ? ['--quick'] : []), ...(precision === 'bf16' ? ['--bf16'] : [])];
        const peerRatios = new Map<string, number[]>();
        for (const r of await native<Race & { pass: string; inner: number; outer: number }>('linear_bench', t, options)) {
          const of = (name: string) => r.results.find((x) => x.name === name);
          const ours = of('longer')!;
          const base = { bench: 'linear', config: `${r.inner}x${r.outer}`, threads: t, precision } as const;
          const peak = { name: 'peak', value: of('peak')!.gflops };
          if (r.pass === 'backward') {
            yield { ...base, name: 'backward (dx + dw)', value: ours.gflops, unit: 'GFLOP/s', against: peak, ratio: ours.toFirst, bar: { is: '>=', value: 0.85 },
              note: `dx ${of('dx')!.toFirst.toFixed(2)}, dw ${of('dw')!.toFirst.toFixed(2)} of peak` };
            continue;
          }
          const peers = ['onednn', 'libxsmm'].map(of).filter((x) => x !== undefined).sort((a, b) => b.gflops - a.gflops);
          const best = peers[0];
          const note = `${ours.toFirst.toFixed(2)} of peak${peers.map((p) => `; ${p.name} ${p.toFirst.toFixed(2)}`).join('')}`;
          if (!best) {
            yield { ...base, name: r.pass, value: ours.gflops, unit: 'GFLOP/s', against: peak, ratio: ours.toFirst, note: 'peer not installed: apt-get install libdnnl-dev libxsmm-dev' };
            continue;
          }
          const ratio = best.seconds / ours.seconds;
          peerRatios.set(r.pass, [...(peerRatios.get(r.pass) ?? []), ratio]);
          yield { ...base, name: r.pass, value: ours.gflops, unit: 'GFLOP/s', against: { name: best.name, value: best.gflops }, ratio, bar: { is: '>=', value: 1 }, note };
        }
        for (const [pass, ratios] of peerRatios)
          yield { bench: 'linear', name: `${pass}, geometric mean`, config: `${ratios.length} shapes`, threads: t, precision, value: ratios.length, unit: 'shapes',
            ratio: Math.exp(ratios.reduce((s, x) => s + Math.log(x), 0) / ratios.length), note: `worst shape ${Math.min(...ratios).toFixed(2)}` };
      }
  },
};

export const attentionBench: Bench = {
  name: 'attention',
  about: '250 keys, 108 rows, 4 heads of 64, against the peak',
  async *run({ threads, seconds }) {
    for (const precision of ['fp32', 'bf16'] as const)
      for (const t of threads) {
        if (precision === 'bf16' && (await roofs(t, 0.01, true)).bf16 === 0) continue;
        for (const r of await native<Race & { visibility: string }>('attention_bench', t, ['--seconds', String(seconds / 4), ...(precision === 'bf16' ? ['--bf16'] : [])]))
          for (const pass of ['forward', 'backward']) {
            const ours = r.results.find((x) => x.name === pass)!;
            yield {
              bench: 'attention', name: pass, config: `250x108x64 ${r.visibility}`, threads: t, precision, value: ours.gflops, unit: 'GFLOP/s',
              against: { name: 'peak', value: r.results[0]!.gflops }, ratio: ours.toFirst,
              ...(r.visibility === 'full' ? { bar: { is: '>=' as const, value: pass === 'forward' ? 0.6 : 0.5 } } : {}),
              note: pass === 'forward' ? '2 products a visible pair' : '5 products a visible pair',
            };
          }
      }
  },
};
