import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import type { Batch } from '../data/batch.ts';
import { batches } from '../data/batches.ts';
import { makeWorld, worldDefaults, worldSchema } from '../data/world.ts';
import { historyForm } from '../model/config.ts';
import { ModelDescription } from '../model/model.ts';
import { Plan, State } from '../native/plan.ts';
import { Runtime } from '../native/runtime.ts';
import { encodeRequest } from '../schema/encode.ts';
import { trainDefaults } from '../train/options.ts';
import { initialiseStep, rateInputs, trainStep } from '../train/step.ts';
import type { Trainer } from '../train/trainer.ts';
import { readRunConfig } from './config_file.ts';
import { deviceOption, type Machine, machineOf, print, table, threadsOption, wholeNumber } from './files.ts';

interface Options extends Machine {
  readonly model?: string;
  readonly config?: string;
  readonly history: number;
  readonly requests: number;
  readonly candidates: number;
  readonly trace?: string;
  readonly json?: boolean;
}

export interface OpTime {
  readonly op: string;
  readonly calls: number;
  readonly milliseconds: number;
  readonly share: number;
}

/** Milliseconds by operation, the largest first. */
function timesByOp(nodes: readonly { readonly op: string }[], times: Float64Array): OpTime[] {
  const sums = new Map<string, { calls: number; microseconds: number }>();
  nodes.forEach((n, i) => {
    const s = sums.get(n.op) ?? { calls: 0, microseconds: 0 };
    sums.set(n.op, { calls: s.calls + 1, microseconds: s.microseconds + times[i]! });
  });
  const total = times.reduce((a, b) => a + b, 0);
  return [...sums].map(([op, s]) => ({ op, calls: s.calls, milliseconds: s.microseconds / 1000, share: s.microseconds / total })).sort((a, b) => b.milliseconds - a.milliseconds);
}

/** Where the time of a training step goes. No parameter moves. */
export async function timedStep(trainer: Trainer, batch: Batch): Promise<OpTime[]> {
  const { sizes, arrays } = trainer.model.inputs(batch);
  for (const [name, rates] of rateInputs(trainer.compiled.rates, { dense: 0, weightDecay: 0, sparse: 0, update: 1, average: 0 })) arrays.set(name, rates);
  arrays.set('dropout.seed', Int32Array.of(1, 1));
  const { times } = await trainer.plan.run(sizes, arrays, new Map(), { profile: true });
  return timesByOp(trainer.plan.nodes, times!);
}

export function profileCommand(): Command {
  return new Command('profile')
    .description('time of every operation in one training step on made data; --trace writes a file that Perfetto opens')
    .option('--model <name>', 'model name', 'longer')
    .option('--config <file>', 'JSON with "model" and "train" settings')
    .option('--history <n>', 'history length', wholeNumber, 500)
    .option('--requests <n>', 'requests in the batch', wholeNumber, 16)
    .option('--candidates <n>', 'candidates a request', wholeNumber, 4)
    .addOption(threadsOption())
    .addOption(deviceOption())
    .option('--trace <file>', 'Chrome trace JSON')
    .option('--json', 'as JSON')
    .action(async (o: Options) => {
      const run = await readRunConfig(o.config, o.model);
      const world = { ...worldDefaults, historyLength: o.history, requests: o.requests, candidates: o.candidates };
      const schema = worldSchema(world);
      const model = new ModelDescription(schema, run.model);
      const options = { ...trainDefaults, ...run.train, recompute: typeof run.train.recompute === 'string' ? run.train.recompute : ('none' as const) };
      using runtime = new Runtime(machineOf(o));
      const step = trainStep(model, { ...options, target: runtime });
      using state = new State([...model.layout.stores(), ...step.stores], runtime);
      model.initialise(state, 1);
      initialiseStep(state, model.layout, options);
      using plan = new Plan(step.spec, state, runtime);
      const encoded = [...makeWorld(world)].map((s) => encodeRequest(schema, s.request));
      for await (const batch of batches(schema, encoded, { ...historyForm(run.model), maxEvents: Infinity, maxRequests: o.requests, maxCandidates: Infinity })) {
        const { sizes, arrays } = model.inputs(batch);
        for (const [name, rates] of rateInputs(step.rates, { dense: 1e-4, weightDecay: 0, sparse: 1e-4, update: 1, average: 0 })) arrays.set(name, rates);
        arrays.set('dropout.seed', Int32Array.of(1, 1));
        await plan.run(sizes, arrays); // warm
        const result = await plan.run(sizes, arrays, new Map(), { profile: true });
        const ops = timesByOp(plan.nodes, result.times!);
        if (o.trace !== undefined) await writeFile(o.trace, trace(plan.nodes, result.times!));
        const flops = step.graph.flops(sizes);
        const summary = { model: run.model.kind, milliseconds: result.elapsed / 1000, gflops: flops / result.elapsed / 1000, arena: plan.memory(sizes).arena, ops };
        print(o.json, summary, () =>
          [
            `${run.model.kind}: step ${summary.milliseconds.toFixed(1)} ms, ${summary.gflops.toFixed(1)} GFLOP/s, arena ${(summary.arena / 2 ** 20).toFixed(1)} MiB`,
            table([['operation', 'calls', 'ms', 'share'], ...ops.map((t) => [t.op, String(t.calls), t.milliseconds.toFixed(2), `${(100 * t.share).toFixed(1)} %`])]),
          ].join('\n'),
        );
      }
    });
}

function trace(nodes: readonly { readonly op: string; readonly name: string }[], times: Float64Array): string {
  let at = 0;
  const events = nodes.map((n, i) => {
    const event = { name: n.name, cat: n.op, ph: 'X', ts: at, dur: times[i]!, pid: 1, tid: 1 };
    at += times[i]!;
    return event;
  });
  return JSON.stringify({ traceEvents: events });
}
