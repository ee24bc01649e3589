/** `memory.ts PRESET STEPS POLICY`: trains and prints what the process's memory did. PRESET `tiny` is a short S. */
import { readFileSync } from 'node:fs';
import { benchBatch, benchPreset } from '../../lib/bench/presets.ts';
import { TrainSession } from '../../lib/bench/sessions.ts';
import type { MemoryReport } from '../cases/memory.ts';

const [name, count, policy] = process.argv.slice(2) as [string, string, 'none' | 'block'];
const steps = Number(count);
const base = benchPreset(name === 'tiny' ? 'S' : name);
const preset = name === 'tiny' ? { ...base, requests: 4, model: { ...base.model, maxHistory: 64, queries: { kind: 'recent' as const, k: 8 } } } : base;
const kilobytes = (field: string): number => 1024 * Number(new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync('/proc/self/status', 'utf8'))![1]);
const collected = (): number => {
  globalThis.gc?.();
  return kilobytes('VmRSS');
};

using session = new TrainSession(preset, { threads: 1, recompute: policy });
const batches = Array.from({ length: name === 'tiny' ? 20 : 1 }, (_, i) => benchBatch(Array.from({ length: preset.requests }, (_, r) => (name === 'tiny' ? 1 + ((r * 17 + i * 5) % 64) : preset.model.maxHistory)), 1, i + 1));
// Optimizer state is zero pages until it is first written: a step of one event touches the dense part of it.
await session.trainer.train(benchBatch([1]));
const before = collected();
let early = before;
for (let i = 1; i <= steps; ++i) {
  await session.trainer.train(batches[i % batches.length]!);
  if (i === Math.ceil(steps / 10)) early = collected();
}
const peak = kilobytes('VmHWM');
process.stdout.write(JSON.stringify({ promised: session.promised(batches[0]!), before, peak, early, end: collected(), steps } satisfies MemoryReport));
