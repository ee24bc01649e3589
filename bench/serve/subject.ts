import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { benchPreset, benchSchema } from '../../lib/bench/presets.ts';
import { saveCheckpoint } from '../../lib/model/checkpoint.ts';
import { ModelDescription } from '../../lib/model/model.ts';
import type { Tensor } from '../../lib/model/safetensors.ts';
import { State } from '../../lib/native/plan.ts';
import { Runtime } from '../../lib/native/runtime.ts';
import { Ranker } from '../../lib/rank/ranker.ts';
import type { BenchRecord } from '../record.ts';

/** The model that is measured. */
export interface Subject extends Disposable {
  readonly name: string;
  /** Holds the model directories `a` and `b`, of one schema; absent for a model of the user's. */
  readonly root: string | undefined;
  readonly directory: string;
  readonly ranker: Ranker;
  readonly runtime: Runtime;
  readonly threads: number;
  /** Of a full history. */
  readonly events: number;
  /** What every figure of it says. */
  readonly record: Pick<BenchRecord, 'config' | 'threads' | 'precision'>;
}

/** A preset with first values from a seed, saved. */
async function savePreset(name: string, seed: number, directory: string): Promise<void> {
  const model = new ModelDescription(benchSchema, benchPreset(name).model);
  using state = new State(model.layout.stores());
  model.initialise(state, seed);
  await saveCheckpoint(directory, { step: 0, config: { model: model.config }, schema: benchSchema.toJSON(), tensors: model.parameters(state) as Map<string, Tensor>, progress: {} });
}

export async function openSubject({ preset, model, threads }: { readonly preset: string; readonly model?: string; readonly threads: number }): Promise<Subject> {
  const root = model === undefined ? mkdtempSync(join(tmpdir(), 'longer-bench-')) : undefined;
  if (root !== undefined) for (const [name, seed] of [['a', 1], ['b', 2]] as const) await savePreset(preset, seed, join(root, name));
  const directory = model ?? join(root!, 'a');
  const runtime = new Runtime({ threads });
  const ranker = await Ranker.open(directory, { runtime });
  const name = model ?? preset;
  return {
    name, root, directory, ranker, runtime, threads, events: ranker.model.config.maxHistory, record: { config: name, threads, precision: ranker.precision === 'bf16' ? 'bf16' : 'fp32' },
    [Symbol.dispose]: () => {
      ranker.dispose();
      runtime.dispose();
      if (root !== undefined) rmSync(root, { recursive: true });
    },
  };
}
