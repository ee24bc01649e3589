import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { benchBatch, benchPreset, type BenchPreset, raggedLengths } from '../../lib/bench/presets.ts';
import { race } from '../../lib/bench/race.ts';
import { TrainSession } from '../../lib/bench/sessions.ts';
import { type Tensor, writeSafetensors } from '../../lib/model/safetensors.ts';
import { type Bench, precisions } from '../context.ts';
import { Peer } from '../peer.ts';
import { peerBatch, type PeerBatch, peerConfig } from '../peers/peer_model.ts';
import type { BenchRecord } from '../record.ts';

const script = join(import.meta.dirname, '..', 'peers', 'torch_longer.py');
const python = process.env['LONGER_BENCH_PYTHON'] ?? '/usr/bin/python3';

/** What keeps freed memory: without it each large array of a step is mapped and cleared anew, and PyTorch takes two to three times as long. */
const keepMemory = { MALLOC_MMAP_MAX_: '0', MALLOC_TRIM_THRESHOLD_: String(2 ** 34), MALLOC_TOP_PAD_: String(2 ** 26) };

/** The OpenBLAS kernel that is fastest here: an older OpenBLAS takes a newer CPU for one without AVX. */
function fastestBlas(threads: number): { env: Record<string, string>; note: string } {
  const probe = join(import.meta.dirname, '..', 'peers', 'probe_blas.py');
  const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('OPENBLAS_')));
  const rates = ['', 'Haswell', 'Zen', 'SkylakeX', 'Cooperlake', 'Sapphirerapids'].map((core) => {
    const r = spawnSync(python, [probe, String(threads)], { encoding: 'utf8', env: { ...clean, OMP_NUM_THREADS: String(threads), ...(core === '' ? {} : { OPENBLAS_CORETYPE: core }) } });
    return { core, rate: r.status === 0 ? Number(r.stdout) : 0 };
  });
  const best = rates.reduce((a, b) => (b.rate > a.rate ? b : a));
  return { env: best.core === '' ? {} : { OPENBLAS_CORETYPE: best.core }, note: `BLAS: ${rates.map((r) => `${r.core || 'its own choice'} ${r.rate.toFixed(0)}`).join(', ')} GFLOP/s; ran ${best.core || 'its own choice'}` };
}

const step = async (peer: Peer, name: string, precision: string): Promise<number> => (await peer.ask<{ seconds: number }>({ cmd: 'step', name, precision })).seconds;

/** Over how many events the peer's InnerTransformer is one masked attention: whatever is fastest here. */
async function fastestSpan(peer: Peer, batch: PeerBatch): Promise<number> {
  const times: { span: number; seconds: number }[] = [];
  for (const span of [16, 32, 64]) {
    await peer.ask({ cmd: 'batch', name: 'equal', span, batch });
    const runs: number[] = [];
    for (let i = 0; i < 3; ++i) runs.push(await step(peer, 'equal', 'fp32'));
    times.push({ span, seconds: Math.min(...runs) });
  }
  return times.reduce((a, b) => (b.seconds < a.seconds ? b : a)).span;
}

async function* preset(p: BenchPreset, t: number, seconds: number, weights: string): AsyncIterable<BenchRecord> {
  const lengths = { equal: Array.from({ length: p.requests }, () => p.model.maxHistory), ragged: raggedLengths(p.requests, p.model.maxHistory) };
  const kinds = ['equal', 'ragged'] as const;
  const batches = { equal: benchBatch(p, lengths.equal), ragged: benchBatch(p, lengths.ragged) };
  const sessions = precisions.map((precision) => ({ precision, s: new TrainSession(p, { threads: t, precision }) }));
  try {
    const { trainer } = sessions[0]!.s;
    await writeSafetensors(weights, trainer.model.parameters(trainer.state) as Map<string, Tensor>);
    const blas = fastestBlas(t);
    const base = { bench: 'torch', config: `${p.name} batch ${p.requests}`, threads: t } as const;
    const open = { cmd: 'open', threads: t, weights, config: peerConfig(p.model, trainer.model.schema) };
    const peerBatches = { equal: peerBatch(batches.equal, p.model.timeGap.buckets), ragged: peerBatch(batches.ragged, p.model.timeGap.buckets) };
    const environment = { OMP_NUM_THREADS: String(t), OMP_WAIT_POLICY: 'passive', ...blas.env };
    await using peer = new Peer(python, [script], { ...environment, ...keepMemory });
    await peer.ask(open);

    let difference = 0;
    for (const kind of kinds) {
      await peer.ask({ cmd: 'batch', name: kind, span: 32, batch: peerBatches[kind] });
      const { logits } = await peer.ask<{ logits: number[] }>({ cmd: 'logits', name: kind });
      const own = await trainer.predict(batches[kind]);
      difference = Math.max(difference, ...logits.map((x, i) => Math.abs(x - own[i]!)));
    }
    yield { ...base, name: 'largest difference of logits', precision: 'fp32', value: difference, unit: '', bar: { is: '<=', value: 1e-4 }, note: `equal and ragged lengths; ${blas.note}` };
    if (!(difference <= 1e-4)) return; // no timing of another model

    const span = await fastestSpan(peer, peerBatches.equal);
    for (const kind of kinds) await peer.ask({ cmd: 'batch', name: kind, span, batch: peerBatches[kind] });
    const result = await race(kinds.flatMap((kind) => [
      ...sessions.map(({ precision, s }) => ({ name: `ours ${kind} ${precision}`, run: async () => { await s.trainer.train(batches[kind]); } })),
      ...precisions.map((precision) => ({ name: `peer ${kind} ${precision}`, rest: 30, run: () => step(peer, kind, precision) })),
    ]), seconds);
    const rate = (name: string): number => p.requests / result.seconds.get(name)!;
    for (const kind of kinds)
      for (const { precision } of sessions) {
        const best = precision === 'bf16' && rate(`peer ${kind} bf16`) > rate(`peer ${kind} fp32`) ? 'bf16' : 'fp32';
        const bar = kind === 'equal' ? (t === 2 ? { fp32: 1.7, bf16: 2.6 } : null) : t === 1 ? { fp32: 1.8, bf16: 3 } : null;
        yield { ...base, name: kind === 'equal' ? 'requests, equal lengths' : 'requests, lengths uniform in 1..L', precision, value: rate(`ours ${kind} ${precision}`), unit: '/s',
          against: { name: `PyTorch ${best}`, value: rate(`peer ${kind} ${best}`) }, ratio: result.ratio(`peer ${kind} ${best}`, `ours ${kind} ${precision}`),
          ...(bar ? { bar: { is: '>=' as const, value: bar[precision] } } : {}),
          note: `PyTorch fp32 ${rate(`peer ${kind} fp32`).toFixed(1)}, bf16 autocast ${rate(`peer ${kind} bf16`).toFixed(1)} /s; InnerTransformer over ${span} events at a time` };
      }
  } finally {
    for (const { s } of sessions) s[Symbol.dispose]();
  }
}

/** Runs `each` for every preset and number of threads, with a file for the weights, or says that there is no peer. */
async function* withPeer(bench: string, presets: readonly string[], threads: readonly number[], each: (p: BenchPreset, t: number, weights: string) => AsyncIterable<BenchRecord>): AsyncIterable<BenchRecord> {
  if (spawnSync(python, ['-c', 'import torch']).status !== 0) {
    yield { bench, name: 'training', config: '', threads: 0, precision: 'fp32', value: NaN, unit: '', missing: 'peer not installed: apt-get install python3-torch libopenblas0-openmp' };
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'longer-bench-'));
  try {
    for (const name of presets) for (const t of [...threads].reverse()) yield* each(benchPreset(name), t, join(folder, 'weights.safetensors'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

export const torchBench: Bench = {
  name: 'torch',
  about: 'training step beside PyTorch, the same weights and batches, logits compared first',
  run: ({ presets, threads, seconds }) => withPeer('torch', presets, threads, (p, t, weights) => preset(p, t, seconds, weights)),
};

export const torchMemoryBench: Bench = {
  name: 'torch-memory',
  about: 'memory of a training step beside PyTorch, plain and with checkpoints',
  run: ({ presets }) => withPeer('torch-memory', presets, [1], async function* (p, t, weights) {
    const batch = benchBatch(p, Array.from({ length: p.requests }, () => p.model.maxHistory));
    for (const [policy, checkpoint] of [['none', false], ['block', true]] as const) {
      using ours = new TrainSession(p, { threads: t, recompute: policy });
      const { trainer } = ours;
      await writeSafetensors(weights, trainer.model.parameters(trainer.state) as Map<string, Tensor>);
      // Large arrays go back to the system when freed, so that the peak is that of what lives.
      await using peer = new Peer(python, [script], { OMP_NUM_THREADS: String(t), MALLOC_MMAP_THRESHOLD_: '131072' });
      await peer.ask({ cmd: 'open', threads: t, weights, config: peerConfig(p.model, trainer.model.schema) });
      await peer.ask({ cmd: 'batch', name: 'equal', span: 32, batch: peerBatch(batch, p.model.timeGap.buckets) });
      const { bytes } = await peer.ask<{ bytes: number }>({ cmd: 'peak', name: 'equal', precision: 'fp32', checkpoint });
      const promised = ours.promised(batch);
      yield { bench: 'torch-memory', config: `${p.name} batch ${p.requests}`, threads: t, name: `step memory, ${policy}`, precision: 'fp32', value: promised / 1e6, unit: 'MB',
        against: { name: `PyTorch${checkpoint ? ' with checkpoints' : ''} MB`, value: bytes / 1e6 }, ratio: promised / bytes, note: 'the arena of our plan; by how much PyTorch\'s process grows in its second step' };
    }
  }),
};
