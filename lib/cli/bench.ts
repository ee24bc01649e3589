import { availableParallelism } from 'node:os';
import { Command } from 'commander';
import { benchBatch, benchPreset, benchPresets, benchRequests, benchSchema, formulaFlops, type BenchPreset } from '../bench/presets.ts';
import { time } from '../bench/race.ts';
import { ServeSession, TrainSession } from '../bench/sessions.ts';
import { ModelDescription } from '../model/model.ts';
import { deviceOption, type Machine, positiveNumber, print, table, threadsOption } from './files.ts';

interface Options extends Machine {
  readonly preset: string;
  readonly seconds: number;
  readonly list?: boolean;
  readonly json?: boolean;
}

/** Parameters and forward FLOPs of a preset, for a request with one candidate: by the paper's formulas and as counted op by op. */
export function presetCost(p: BenchPreset) {
  const model = new ModelDescription(benchSchema, p.model);
  const cost = model.cost(p.model.maxHistory);
  return {
    preset: p.name, history: p.model.maxHistory, requests: p.requests, parameters: cost.parameters, denseParameters: model.layout.denseSize,
    formulaFlops: formulaFlops(p.model, p.model.maxHistory, 1), flops: cost.flopsPerRequest + cost.flopsPerCandidate,
    flopsPerCandidate: cost.flopsPerCandidate, kvBytesPerUser: cost.kvBytesPerUser,
  };
}

async function measure(p: BenchPreset, { threads = availableParallelism(), device }: Machine, seconds: number) {
  const lengths = Array.from({ length: p.requests }, () => p.model.maxHistory);
  const cost = presetCost(p);
  let step: number;
  let arena: number;
  {
    using session = new TrainSession(p, { threads, device });
    const batch = benchBatch(p, lengths);
    arena = session.promised(batch);
    step = await time(async () => { await session.trainer.train(batch); }, seconds);
  }
  using serve = new ServeSession(p, { threads, device });
  const one = benchRequests([p.model.maxHistory]);
  const prefill = await time(async () => { await serve.ranker.prefill(one); }, seconds);
  const cache = await serve.ranker.prefill(one);
  const rates: Record<string, number> = {};
  for (const count of [1, 16, 1024]) {
    const [request] = benchRequests([1], count, 2);
    rates[count] = count / (await time(async () => { await serve.ranker.score(cache, [request!]); }, seconds / 2));
  }
  return {
    preset: p.name, threads, device: serve.runtime.device, stepMilliseconds: 1000 * step, requestsPerSecond: p.requests / step,
    gflops: (3e-9 * p.requests * cost.formulaFlops) / step, arenaBytes: arena, prefillMilliseconds: 1000 * prefill, candidatesPerSecond: rates,
  };
}

export function benchCommand(): Command {
  return new Command('bench')
    .description('speed of this machine on the named sizes S, M, P and X: training step, prefill, cached candidates (npm run bench in a clone compares with roofs and peers)')
    .option('--preset <names>', 'sizes to measure, joined by commas', 'S,M,P')
    .addOption(threadsOption())
    .addOption(deviceOption())
    .option('--seconds <s>', 'time for each figure', positiveNumber, 2)
    .option('--list', 'only what the sizes cost: parameters, FLOPs, bytes')
    .option('--json', 'as JSON')
    .action(async (o: Options) => {
      if (o.list) {
        const costs = Object.values(benchPresets).map(presetCost);
        print(o.json, costs, () => table([
          ['preset', 'history', 'requests', 'parameters', 'formula GFLOP', 'counted GFLOP', 'MFLOP a candidate', 'K/V MiB a user'],
          ...costs.map((c) => [c.preset, String(c.history), String(c.requests), c.parameters.toLocaleString('en'), (c.formulaFlops / 1e9).toFixed(3),
            (c.flops / 1e9).toFixed(3), (c.flopsPerCandidate / 1e6).toFixed(2), (c.kvBytesPerUser / 2 ** 20).toFixed(2)]),
        ]));
        return;
      }
      const presets = o.preset.split(',').map((name) => benchPreset(name.trim()));
      const results: Awaited<ReturnType<typeof measure>>[] = [];
      for (const p of presets) results.push(await measure(p, o, o.seconds));
      print(o.json, results, () => table([
        ['preset', 'threads', 'step ms', 'requests/s', 'GFLOP/s', 'arena MiB', 'prefill ms', 'C=1 /s', 'C=16 /s', 'C=1024 /s'],
        ...results.map((r) => [r.preset, String(r.threads), r.stepMilliseconds.toFixed(1), r.requestsPerSecond.toFixed(1), r.gflops.toFixed(0),
          (r.arenaBytes / 2 ** 20).toFixed(0), r.prefillMilliseconds.toFixed(2), ...[1, 16, 1024].map((c) => r.candidatesPerSecond[c]!.toFixed(0))]),
      ]));
    });
}
