import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { benchBatch, benchPreset, type BenchPreset, benchRequest, benchSchema } from '../../lib/bench/presets.ts';
import { type Contestant, race } from '../../lib/bench/race.ts';
import { ServeSession } from '../../lib/bench/sessions.ts';
import { encodeRequest, type EncodedRequest } from '../../lib/schema/encode.ts';
import { packBatch } from '../../lib/data/batch.ts';
import { type Tensor, writeSafetensors } from '../../lib/model/safetensors.ts';
import { type Bench, type Context, precisions } from '../context.ts';
import { Peer } from '../peer.ts';
import { peerBatch, peerConfig } from '../peers/peer_model.ts';
import type { Question } from '../peers/onnx_peer.ts';
import type { BenchRecord } from '../record.ts';

const folder = join(import.meta.dirname, '..', 'peers');
const install = 'npm install --ignore-scripts --prefix bench/peers';

/** Seconds of one turn of a contestant: short calls are repeated, both here and there. */
const turn = 0.01;
const rest = 30; // milliseconds, for the peer's threads that spin on

const figures = [
  { what: 'prefill', count: 0, name: 'prefill of one user', unit: 'ms', bars: { fp32: 1.8 } },
  { what: 'cached', count: 1, name: 'cached candidates, C=1', unit: '/s', bars: { fp32: 4 } },
  { what: 'cached', count: 16, name: 'cached candidates, C=16', unit: '/s', bars: { fp32: 2 } },
  { what: 'cached', count: 1024, name: 'cached candidates, C=1024', unit: '/s', bars: { fp32: 1.25, bf16: 2 } },
  { what: 'full', count: 1, name: 'uncached, a pair at a time', unit: '/s', bars: { fp32: 1.3 } },
] as const satisfies readonly { what: Question['what']; bars: Partial<Record<'fp32' | 'bf16', number>>; [more: string]: unknown }[];

type Figure = (typeof figures)[number];
const label = (f: Figure): string => `${f.what} ${f.count}`;

/** One request with so many candidates, the same history for every count. */
const request = (p: BenchPreset, count: number): EncodedRequest[] => {
  const { candidates } = benchRequest(20_000, 1, count);
  return [encodeRequest(benchSchema, { ...benchRequest(10_000, p.model.maxHistory, 1), candidates, labels: { click: Array.from({ length: count }, () => 0) } })];
};

/** So often in a row that a turn is about `turn` seconds. */
async function repeated(name: string, once: () => Promise<unknown>): Promise<Contestant> {
  await once();
  const from = performance.now();
  await once();
  const times = Math.max(1, Math.round((1000 * turn) / (performance.now() - from)));
  return {
    name,
    run: async () => {
      const start = performance.now();
      for (let i = 0; i < times; ++i) await once();
      return (performance.now() - start) / 1000 / times;
    },
  };
}

async function* preset(p: BenchPreset, threads: number, seconds: number, weights: string): AsyncIterable<BenchRecord> {
  const sessions = precisions.map((precision) => ({ precision, s: new ServeSession(p, { threads, precision }) }));
  try {
    const { model, state, ranker } = sessions[0]!.s;
    await writeSafetensors(weights, model.parameters(state) as Map<string, Tensor>);
    await using peer = new Peer(process.execPath, ['--import', 'tsx', join(folder, 'onnx_peer.ts')]);
    const ids = (count: number): number[] => [...packBatch(benchSchema, request(p, count), { maxHistory: p.model.maxHistory }).columns.get('candidate.item')!];
    const one = request(p, 1);
    const batch = peerBatch(benchBatch(p, [p.model.maxHistory]), p.model.timeGap.buckets);
    const user = { item: batch.item[0]!, action: batch.action[0]!, bucket: batch.bucket[0]!, segment: batch.segment, region: batch.region, hour: batch.hour };
    await peer.ask({ cmd: 'open', threads, weights, config: peerConfig(p.model, benchSchema), user });
    const base = { bench: 'onnx', config: p.name, threads } as const;

    const cache = await ranker.prefill(one);
    let difference = 0;
    for (const what of ['cached', 'full'] as const) {
      const own = what === 'cached' ? await ranker.score(cache, request(p, 16)) : await sessions[0]!.s.full(request(p, 16));
      const { logits } = await peer.ask<{ logits: number[] }>({ cmd: 'logits', what, candidates: ids(16) });
      difference = Math.max(difference, ...own.map((x, i) => Math.abs(x - logits[i]!)));
    }
    yield { ...base, name: 'largest difference of logits', precision: 'fp32', value: difference, unit: '', bar: { is: '<=', value: 1e-4 }, note: 'cached and full, 16 candidates' };
    if (!(difference <= 1e-4)) return; // no timing of another model

    const contestants: Contestant[] = [];
    for (const f of figures) {
      for (const { precision, s } of sessions) {
        const kept = await s.ranker.prefill(one);
        const candidates = request(p, Math.max(1, f.count));
        const once = { prefill: () => s.ranker.prefill(one), cached: () => s.ranker.score(kept, candidates), full: () => s.full(one) }[f.what];
        contestants.push(await repeated(`ours ${precision} ${label(f)}`, once));
      }
      const ask = (times: number) => peer.ask<{ seconds: number }>({ cmd: 'run', what: f.what, candidates: ids(Math.max(1, f.count)), times });
      await ask(1);
      const times = Math.max(1, Math.round(turn / (await ask(1)).seconds));
      contestants.push({ name: `peer ${label(f)}`, rest, run: async () => (await ask(times)).seconds });
    }
    const r = await race(contestants, 2 * seconds);
    for (const f of figures)
      for (const { precision } of sessions) {
        const figure = (name: string): number => (f.unit === 'ms' ? 1000 * r.seconds.get(name)! : f.count / r.seconds.get(name)!);
        const [ours, theirs] = [`ours ${precision} ${label(f)}`, `peer ${label(f)}`];
        const bar = (f.bars as Partial<Record<string, number>>)[precision];
        yield { ...base, name: f.name, precision, value: figure(ours), unit: f.unit, against: { name: 'onnxruntime fp32', value: figure(theirs) }, ratio: r.ratio(theirs, ours),
          ...(p.name === 'P' && threads === 2 && bar !== undefined ? { bar: { is: '>=' as const, value: bar } } : {}) };
      }
  } finally {
    for (const { s } of sessions) s[Symbol.dispose]();
  }
}

export const onnxBench: Bench = {
  name: 'onnx',
  about: 'serving beside onnxruntime, the same weights and requests, logits compared first',
  async *run({ presets, threads, seconds }: Context) {
    if (!existsSync(join(folder, 'node_modules', 'onnxruntime-node')) || !existsSync(join(folder, 'node_modules', 'onnx-proto'))) {
      yield { bench: 'onnx', name: 'serving', config: '', threads: 0, precision: 'fp32', value: NaN, unit: '', missing: `peer not installed: ${install}` };
      return;
    }
    const temporary = mkdtempSync(join(tmpdir(), 'longer-bench-'));
    try {
      for (const name of presets) for (const t of [...threads].reverse()) yield* preset(benchPreset(name), t, seconds, join(temporary, 'weights.safetensors'));
    } finally {
      rmSync(temporary, { recursive: true });
    }
  },
};
