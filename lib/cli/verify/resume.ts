import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Batch, packBatch } from '../../data/batch.ts';
import { loadCheckpoint, type CheckpointTensor } from '../../model/checkpoint.ts';
import { historyForm } from '../../model/config.ts';
import { Equality, type Prover } from './proof.ts';
import { changeEvents } from './requests.ts';
import type { Subject } from './subject.ts';

const stepsBefore = 2;
const stepsAfter = 2;

/** Trains a copy in a temporary folder: the model itself is not written. Candidates without labels are given some. */
export const resume: Prover = async (s) => {
  const folder = await mkdtemp(join(tmpdir(), 'longer-verify-'));
  try {
    const whole = await uninterrupted(s, join(folder, 'whole'));
    const cut = await interrupted(s, join(folder, 'cut'));
    const equal = new Equality();
    let moved = 0;
    for (const [name, { data }] of whole.after) {
      equal.add(data, cut.get(name)?.data ?? new Float32Array(0));
      moved += new Equality().add(data, whole.before.get(name)!.data).different;
    }
    return {
      mechanism: 'resume', claim: `${stepsBefore} steps, save, load, ${stepsAfter} steps = ${stepsBefore + stepsAfter} steps: parameters and optimizer state`,
      measured: `${String(equal)}; the last ${stepsAfter} steps moved ${moved} of them`, pass: equal.holds && equal.numbers > 0 && moved > 0,
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

/** A step's batches differ, and the model is trained on what it is verified with. */
function batchOf(s: Subject, step: number): Batch {
  const { schema, config } = s.model;
  const labelled = s.requests.map((r) => ({ ...r, labels: r.labels.map((y, i) => (Number.isNaN(y) ? i % 2 : y)) }));
  return packBatch(schema, labelled.map((r) => changeEvents(schema, r, (e) => e % 3 === step % 3, step)), historyForm(config));
}

async function steps(s: Subject, trainer: ReturnType<Subject['trainer']>, from: number, count: number): Promise<void> {
  for (let i = from; i < from + count; ++i) await trainer.train(batchOf(s, i));
}

async function tensors(folder: string): Promise<Map<string, CheckpointTensor>> {
  const { tensors, optimizer } = await loadCheckpoint(folder);
  return new Map([...tensors, ...[...(optimizer ?? [])].map(([name, t]) => [`optimizer ${name}`, t] as const)]);
}

async function uninterrupted(s: Subject, folder: string) {
  using trainer = s.trainer();
  await steps(s, trainer, 1, stepsBefore);
  await trainer.save(folder, {});
  const before = await tensors(folder);
  await steps(s, trainer, 1 + stepsBefore, stepsAfter);
  await trainer.save(folder, {});
  return { before, after: await tensors(folder) };
}

async function interrupted(s: Subject, folder: string): Promise<Map<string, CheckpointTensor>> {
  {
    using trainer = s.trainer();
    await steps(s, trainer, 1, stepsBefore);
    await trainer.save(folder, {});
  }
  using trainer = s.trainer(s.device === 'cpu' ? 1 : undefined); // nor does the number of threads matter
  trainer.restore(await loadCheckpoint(folder));
  await steps(s, trainer, 1 + stepsBefore, stepsAfter);
  await trainer.save(folder, {});
  return tensors(folder);
}
