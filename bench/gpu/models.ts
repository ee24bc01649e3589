import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { benchBatch, type BenchPreset, benchPreset, benchRequests } from '../../lib/bench/presets.ts';
import { time } from '../../lib/bench/race.ts';
import { type Precision, ServeSession, TrainSession } from '../../lib/bench/sessions.ts';
import type { Batch } from '../../lib/data/batch.ts';
import { type Tensor, writeSafetensors } from '../../lib/model/safetensors.ts';
import type { TrainOptions } from '../../lib/train/options.ts';
import { peerBatch, peerConfig } from '../peers/peer_model.ts';
import type { GpuContext, GpuFigure } from './context.ts';
import type { Torch } from './torch.ts';

const seconds = 3; // of one race

/** A preset with the batch at which a GPU is measured; small enough for the emulated device where that is asked. */
function sized(name: string, requests: number, tiny: boolean): BenchPreset {
  const p = benchPreset(name);
  return tiny ? { ...p, requests: 2, model: { ...p.model, maxHistory: 24, width: 8, heads: 2, merge: 4, queries: { kind: 'recent', k: 4 }, selfLayers: 1 } } : { ...p, requests };
}
const batchOf = (p: BenchPreset): Batch => benchBatch(p, Array.from({ length: p.requests }, () => p.model.maxHistory));

async function stepOf(p: BenchPreset, batch: Batch, { device, tiny }: GpuContext, precision: Precision, more: Pick<Partial<TrainOptions>, 'recompute'> = {}): Promise<{ step: number; arena: number }> {
  using session = new TrainSession(p, { device, precision, ...more });
  const step = await time(async () => { await session.trainer.train(batch); }, tiny ? 0 : seconds);
  return { step, arena: session.promised(batch) };
}

/** Seconds of a step of PyTorch's, eager and compiled, from the same parameters. */
async function peerSteps(torch: Torch, p: BenchPreset, batch: Batch, tiny: boolean): Promise<Record<string, number>> {
  const folder = mkdtempSync(join(tmpdir(), 'longer-gpu-'));
  try {
    const weights = join(folder, 'weights.safetensors');
    using session = new TrainSession(p, { threads: 1 });
    const { model, state } = session.trainer;
    await writeSafetensors(weights, model.parameters(state) as Map<string, Tensor>);
    const took: Record<string, number> = {};
    for (const way of ['eager', 'compile']) {
      await using peer = torch.longer();
      await peer.ask({ cmd: 'open', threads: 4, device: tiny ? 'cpu' : 'cuda', compile: way === 'compile', weights, config: peerConfig(p.model, model.schema) });
      await peer.ask({ cmd: 'batch', name: 'equal', span: Math.max(p.model.merge, 32), batch: peerBatch(batch, p.model.timeGap.buckets) });
      const times: number[] = [];
      for (let i = 0; i < (tiny ? 1 : 12); ++i) times.push((await peer.ask<{ seconds: number }>({ cmd: 'step', name: 'equal', precision: 'bf16' })).seconds);
      took[way] = Math.min(...times);
    }
    return took;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function trainingFigure(name: string, requests: number, least: number, peers: Readonly<Record<string, number>>): GpuFigure {
  return {
    name: `training-${name}`,
    async *run(context) {
      const p = sized(name, requests, context.tiny);
      const batch = batchOf(p);
      const base = { config: `${name} batch ${p.requests}`, precision: 'bf16' } as const;
      const { step, arena } = await stepOf(p, batch, context, 'bf16');
      yield { ...base, name: 'training step, samples', value: p.requests / step, unit: '/s', bar: { is: '>=', value: least }, note: `${(1000 * step).toFixed(1)} ms, arena ${(arena / 2 ** 30).toFixed(2)} GiB` };
      if (typeof context.torch === 'string') yield { ...base, name: 'training step', value: 1000 * step, unit: 'ms', against: { name: 'PyTorch', value: NaN }, note: context.torch };
      else
        for (const [way, took] of Object.entries(await peerSteps(context.torch, p, batch, context.tiny)))
          yield { ...base, name: 'training step', value: 1000 * step, unit: 'ms', against: { name: `PyTorch ${way}, ms`, value: 1000 * took }, ratio: took / step, ...(peers[way] ? { bar: { is: '>=' as const, value: peers[way] } } : {}) };
    },
  };
}

const precisions: GpuFigure = {
  name: 'precision-recompute',
  async *run(context) {
    const p = sized('P', 256, context.tiny);
    const batch = batchOf(p);
    const base = { config: `P batch ${p.requests}`, precision: 'bf16' } as const;
    const [bf16, fp32, selective] = [await stepOf(p, batch, context, 'bf16'), await stepOf(p, batch, context, 'fp32'), await stepOf(p, batch, context, 'bf16', { recompute: 'selective' })];
    yield { ...base, name: 'bf16 to fp32 step', value: 1000 * bf16.step, unit: 'ms', against: { name: 'fp32, ms', value: 1000 * fp32.step }, ratio: fp32.step / bf16.step, bar: { is: '>=', value: 2 } };
    for (const [narrow, beside, took] of [['fp16', 'bf16', bf16.step], ['tf32', 'fp32', fp32.step]] as const) {
      const { step } = await stepOf(p, batch, context, narrow);
      yield { ...base, precision: narrow, name: `${narrow} to ${beside} step`, value: 1000 * step, unit: 'ms', against: { name: `${beside}, ms`, value: 1000 * took }, ratio: took / step };
    }
    yield { ...base, name: 'recompute selective, arena', value: selective.arena / 2 ** 20, unit: 'MiB', against: { name: 'none, MiB', value: bf16.arena / 2 ** 20 }, ratio: selective.arena / bf16.arena, bar: { is: '<=', value: 0.5 } };
    yield { ...base, name: 'recompute selective, time', value: 1000 * selective.step, unit: 'ms', against: { name: 'none, ms', value: 1000 * bf16.step }, ratio: selective.step / bf16.step, bar: { is: '<=', value: 1.1 } };
  },
};

const scoring: GpuFigure = {
  name: 'scoring',
  async *run({ device, tiny }) {
    const p = sized('P', 8, tiny);
    using serve = new ServeSession(p, { device, precision: 'bf16' });
    const count = tiny ? 4 : 1000;
    for (const users of tiny ? [1, 2] : [1, 8]) {
      const cache = await serve.ranker.prefill(benchRequests(Array.from({ length: users }, () => p.model.maxHistory)));
      const candidates = benchRequests(Array.from({ length: users }, () => 1), count, 2);
      const took = await time(async () => { await serve.ranker.score(cache, candidates); }, tiny ? 0 : seconds);
      const base = { config: `P, ${users} cached, ${count} candidates each`, precision: 'bf16' } as const;
      if (users === 1) yield { ...base, name: 'scoring call', value: 1e6 * took, unit: 'us', bar: { is: '<=', value: 60 } };
      else yield { ...base, name: 'scoring, candidates', value: (users * count) / took, unit: '/s', bar: { is: '>=', value: 20e6 } };
    }
  },
};

export const trainingP = trainingFigure('P', 1024, 100_000, { compile: 2, eager: 4 });
export const trainingX = trainingFigure('X', 256, 15_000, { compile: 2 });
export const otherModelFigures: readonly GpuFigure[] = [scoring, precisions];
