import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { ModelConfig } from '../lib/model/config.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { encodeRequest } from '../lib/schema/encode.ts';
import { MemoryHistoryStore } from '../lib/serve/history_store.ts';
import type { RankRequest } from '../lib/serve/rank_call.ts';
import type { RankServiceOptions } from '../lib/serve/rank_options.ts';
import { RankService } from '../lib/serve/rank_service.ts';
import type { RankResult } from '../lib/serve/ranking.ts';
import { trainDefaults } from '../lib/train/options.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { random, richSchema, tiny } from './helpers.ts';

export const runtime = new Runtime({ threads: 2 });
t.teardown(() => { runtime.dispose(); });

export type Request = RankRequest<(typeof richSchema)['spec']>;

export function request(seed: number, events = 12, candidates = 5): Request {
  const next = random(seed);
  const int = (n: number): number => Math.floor(next() * n);
  let time = 1000;
  return {
    user: { user_id: `u${int(1000)}`, age: 20 + int(40), likes: Array.from({ length: int(4) }, () => int(50)) },
    context: { hour: int(24) },
    history: Array.from({ length: events }, () => ({ item: int(50), action: int(3), dwell: next() * 200, time: (time += int(500)) })),
    time: time + int(1000),
    candidates: Array.from({ length: candidates }, () => ({ item: int(50), price: next() * 3 })),
  };
}

/** A model of its own values for each seed, saved. */
export async function saved(t: Test, seed = 1, config: ModelConfig = tiny): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'longer-serve-'));
  t.teardown(() => { rmSync(directory, { recursive: true }); });
  const trainer = new Trainer(new ModelDescription(richSchema, config), { ...trainDefaults, seed }, runtime);
  await trainer.save(directory, {});
  trainer.dispose();
  return directory;
}

export async function service(t: Test, directory: string, options: Partial<RankServiceOptions> = {}): Promise<RankService> {
  const made = new RankService(await Ranker.open(directory, { runtime }), 'first', { timeout: 600_000, ...options }, {
    open: (d) => Ranker.open(d, { runtime }), histories: new MemoryHistoryStore(richSchema),
  });
  t.teardown(() => made.close());
  return made;
}

/** What the Ranker gives alone, ordered as the service orders it. */
export async function alone(directory: string, r: Request): Promise<Record<string, number[]>> {
  using ranker = await Ranker.open(directory, { runtime });
  return await scores(ranker, r);
}

export async function scores(ranker: Ranker, r: Request): Promise<Record<string, number[]>> {
  const logits = await ranker.score(await ranker.prefill([encodeRequest(richSchema, r as never)]));
  const n = logits.length / 2;
  return { click: Array.from({ length: n }, (_, i) => logits[2 * i]!), buy: Array.from({ length: n }, (_, i) => logits[2 * i + 1]!) };
}

export function unordered(result: RankResult, task: string): number[] {
  const out: number[] = [];
  result.index.forEach((place, i) => { out[place] = result.logits[task]![i]!; });
  return out;
}
