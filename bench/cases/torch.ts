import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { benchBatch, benchPreset, raggedLengths } from '../../lib/bench/presets.ts';
import { race } from '../../lib/bench/race.ts';
import { TrainSession } from '../../lib/bench/sessions.ts';
import { type Tensor, writeSafetensors } from '../../lib/model/safetensors.ts';
import { type Bench, precisions } from '../context.ts';
import { Peer } from '../peer.ts';
import { peerBatch, peerConfig } from '../peers/peer_model.ts';

const script = join(import.meta.dirname, '..', 'peers', 'torch_longer.py');
const python = process.env['LONGER_BENCH_PYTHON'] ?? '/usr/bin/python3';

/** The OpenBLAS kernel that is fastest here: an older OpenBLAS takes a newer CPU for one without AVX. */
function fastestBlas(): { env: Record<string, string>; note: string } {
  const probe = join(import.meta.dirname, '..', 'peers', 'probe_blas.py');
  const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('OPENBLAS_')));
  const rates = ['', 'Haswell', 'Zen', 'SkylakeX'].map((core) => {
    const r = spawnSync(python, [probe], { encoding: 'utf8', env: { ...clean, OMP_NUM_THREADS: '1', ...(core === '' ? {} : { OPENBLAS_CORETYPE: core }) } });
    return { core, rate: r.status === 0 ? Number(r.stdout) : 0 };
  });
  const best = rates.reduce((a, b) => (b.rate > a.rate ? b : a));
  return { env: best.core === '' ? {} : { OPENBLAS_CORETYPE: best.core }, note: `BLAS: ${rates.map((r) => `${r.core || 'its own choice'} ${r.rate.toFixed(0)}`).join(', ')} GFLOP/s; ran ${best.core || 'its own choice'}` };
}

export const torchBench: Bench = {
  name: 'torch',
  about: 'training step beside PyTorch, the same weights and batch, logits compared first',
  async *run({ presets, threads, seconds }) {
    const missing = { bench: 'torch', name: 'training', config: '', threads: 0, precision: 'fp32', value: NaN, unit: '', missing: 'peer not installed: apt-get install python3-torch libopenblas0-openmp' } as const;
    if (spawnSync(python, ['-c', 'import torch']).status !== 0) {
      yield missing;
      return;
    }
    const blas = fastestBlas();
    const folder = mkdtempSync(join(tmpdir(), 'longer-bench-'));
    try {
      for (const name of presets)
        for (const t of [...threads].reverse()) {
          const p = benchPreset(name);
          const batch = benchBatch(Array.from({ length: p.requests }, () => p.model.maxHistory));
          const sessions = precisions.map((precision) => ({ precision, s: new TrainSession(p, { threads: t, ...(precision === 'bf16' ? { precision } : {}) }) }));
          const ours = sessions[0]!.s;
          const weights = join(folder, 'weights.safetensors');
          await writeSafetensors(weights, ours.trainer.model.parameters(ours.trainer.state) as Map<string, Tensor>);
          await using peer = new Peer(python, [script], { OMP_NUM_THREADS: String(t), OMP_WAIT_POLICY: 'passive', ...blas.env });
          await peer.ask({ cmd: 'open', threads: t, weights, config: peerConfig(p.model, ours.trainer.model.schema) });
          await peer.ask({ cmd: 'batch', batch: peerBatch(batch, p.model.timeGap.buckets) });
          const { logits } = await peer.ask<{ logits: number[] }>({ cmd: 'logits' });
          const own = await ours.trainer.predict(batch);
          const difference = Math.max(...logits.map((x, i) => Math.abs(x - own[i]!)));
          const base = { bench: 'torch', config: `${name} batch ${p.requests}`, threads: t } as const;
          yield { ...base, name: 'largest difference of logits', precision: 'fp32', value: difference, unit: '', bar: { is: '<=', value: 1e-4 }, note: blas.note };
          if (!(difference <= 1e-4)) continue; // no timing of another model
          const lengths = raggedLengths(p.requests, p.model.maxHistory);
          const ragged = benchBatch(lengths);
          const result = await race([
            ...sessions.flatMap(({ precision, s }) => [
              { name: `ours ${precision}`, run: async () => { await s.trainer.train(batch); } },
              { name: `ragged ${precision}`, run: async () => { await s.trainer.train(ragged); } },
            ]),
            ...(['fp32', 'bf16'] as const).map((precision) => ({
              name: `peer ${precision}`, rest: 30, run: async () => (await peer.ask<{ seconds: number }>({ cmd: 'step', precision })).seconds,
            })),
          ], seconds);
          const best = result.seconds.get('peer bf16')! < result.seconds.get('peer fp32')! ? 'bf16' : 'fp32';
          for (const { precision, s } of sessions) {
            const against = `peer fp32`;
            const peerRate = p.requests / result.seconds.get(against)!;
            const note = `PyTorch bf16 autocast ${(p.requests / result.seconds.get('peer bf16')!).toFixed(1)} /s (its faster: ${best})`;
            const train = precision === 'fp32' ? 1.7 : 2.6;
            const uneven = precision === 'fp32' ? 1.8 : 3;
            yield { ...base, name: 'requests, equal lengths', precision, value: p.requests / result.seconds.get(`ours ${precision}`)!, unit: '/s', against: { name: 'PyTorch fp32', value: peerRate },
              ratio: result.ratio(against, `ours ${precision}`), ...(t === 2 ? { bar: { is: '>=' as const, value: train } } : {}), note };
            yield { ...base, name: 'requests, lengths uniform in 1..L', precision, value: p.requests / result.seconds.get(`ragged ${precision}`)!, unit: '/s', against: { name: 'PyTorch fp32, padded', value: peerRate },
              ratio: result.ratio(against, `ragged ${precision}`), ...(t === 1 ? { bar: { is: '>=' as const, value: uneven } } : {}),
              note: 'the peer pads to the longest; its full-length step stands for it, without the cost of masks' };
            s[Symbol.dispose]();
          }
        }
    } finally {
      rmSync(folder, { recursive: true });
    }
  },
};
