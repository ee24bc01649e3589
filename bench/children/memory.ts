/** `memory.ts PRESET STEPS POLICY RAGGED`: trains and prints what the process's memory did, on batches of RAGGED requests of many lengths where it is not 0. PRESET `tiny` is a short S. */
import { readFileSync } from 'node:fs';
import { benchBatch, benchPreset, raggedLengths } from '../../lib/bench/presets.ts';
import { TrainSession } from '../../lib/bench/sessions.ts';
import type { MemoryReport } from '../cases/memory.ts';

const [name, count, policy, some] = process.argv.slice(2) as [string, string, 'none' | 'block', string];
const steps = Number(count);
const ragged = Number(some);
const base = benchPreset(name === 'tiny' ? 'S' : name);
const preset = name === 'tiny' ? { ...base, model: { ...base.model, maxHistory: 64, queries: { kind: 'recent' as const, k: 8 } } } : base;
const kilobytes = (field: string): number => 1024 * Number(new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync('/proc/self/status', 'utf8'))![1]);
const collected = (): number => {
  globalThis.gc?.();
  return kilobytes('VmRSS');
};

using session = new TrainSession(preset, { threads: 1, recompute: policy });
const longest = preset.model.maxHistory;
const batches = ragged > 0
  ? Array.from({ length: 20 }, (_, i) => benchBatch(preset, raggedLengths(ragged, longest, i + 1), 1, i + 1))
  : [benchBatch(preset, Array.from({ length: preset.requests }, () => longest))];
// Optimizer state is zero pages until it is first written: a step of one event touches the dense part of it.
await session.trainer.train(benchBatch(preset, [1]));
const before = collected();
let early = before;
for (let i = 1; i <= steps; ++i) {
  await session.trainer.train(batches[i % batches.length]!);
  if (i === Math.ceil(steps / 10)) early = collected();
}
const peak = kilobytes('VmHWM');
process.stdout.write(JSON.stringify({ promised: session.promised(batches[0]!), before, peak, early, end: collected(), steps } satisfies MemoryReport));
