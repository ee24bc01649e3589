import t from 'tap';
import { appendRefusal } from '../lib/model/append.ts';
import { historyForm, longerDefaults, type LongerConfig, type ModelConfig, presets } from '../lib/model/config.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { packBatch } from '../lib/data/batch.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { PagedRanker } from '../lib/rank/paged_ranker.ts';
import { Ranker } from '../lib/rank/ranker.ts';
import { type Features, id, type Id, ids, numeric } from '../lib/schema/features.ts';
import { type CandidateOf, defineSchema, type RequestOf, type Schema, type SchemaSpec } from '../lib/schema/schema.ts';
import { trainDefaults } from '../lib/train/options.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { random, sameBits } from './helpers.ts';

/** Schemas and settings at the edges of what is allowed, drawn from a seed: a request's scores are the same bits whichever way it is scored. */

type Next = () => number;
const int = (next: Next, n: number): number => Math.floor(next() * n);
const one = <T>(next: Next, list: readonly T[]): T => list[int(next, list.length)]!;

function features(next: Next, count: number): Features {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [`f${i}`, one(next, [
    () => id('shared', { optional: true }),
    () => id(1 + int(next, 9), 1 + int(next, 5), { hash: true, optional: next() < 0.5 }),
    () => ids(1 + int(next, 9), 1 + int(next, 5), { hash: true, pooling: one(next, ['sum', 'mean'] as const) }),
    () => numeric({ mean: 1, std: 2, optional: next() < 0.5 }),
    () => numeric({ boundaries: [-1, 0, 2], width: 1 + int(next, 3), optional: next() < 0.5 }),
  ])()]));
}

function schemaFrom(next: Next): Schema {
  const side = (name: 'user' | 'context'): Partial<Record<'user' | 'context', Features>> => (next() < 0.5 ? {} : { [name]: features(next, int(next, 3)) });
  return defineSchema({
    tables: { shared: { size: 3, width: 1 + int(next, 7), hash: true } },
    ...side('user'), ...side('context'),
    event: { item: id('shared', { optional: next() < 0.3 }), ...features(next, int(next, 3)) },
    candidate: next() < 0.3 ? { price: numeric() } : { item: id('shared', { optional: next() < 0.3 }), ...features(next, int(next, 3)) },
    labels: Object.fromEntries(Array.from({ length: one(next, [1, 2, 17, 40]) }, (_, i) => [`task${i}`, {}])),
    time: next() < 0.7,
  } as SchemaSpec);
}

const strange: readonly Id[] = [0, -1, 2 ** 53 - 1, -(2 ** 53 - 1), 2n ** 63n, 2n ** 64n - 1n, -(2n ** 63n), '', 'ä€𝄞', '\ud800', '18446744073709551615', ' 1', '01', 'x'.repeat(300)];

function valueOf(next: Next, f: Features[string]): unknown {
  if (f.optional && next() < 0.4) return next() < 0.5 ? null : undefined;
  if (f.type === 'id') return one(next, strange);
  if (f.type === 'ids') return Array.from({ length: int(next, 4) }, () => one(next, strange));
  return one(next, [0, -1, 2, 1e6, 0.5, -1e-12]);
}

const rowOf = (next: Next, side: Features): CandidateOf<SchemaSpec> => Object.fromEntries(Object.entries(side).map(([name, f]) => [name, valueOf(next, f)])) as CandidateOf<SchemaSpec>;

function requestOf({ spec }: Schema, next: Next, events: number, candidates: number): RequestOf<SchemaSpec> {
  let time = 1000;
  const history = Array.from({ length: events }, () => ({ ...rowOf(next, spec.event), time: (time += int(next, 100_000)) }));
  return { user: rowOf(next, spec.user ?? {}), context: rowOf(next, spec.context ?? {}), time, history, candidates: Array.from({ length: candidates }, () => rowOf(next, spec.candidate)) };
}

function configFrom(next: Next): ModelConfig {
  const timeGap = { buckets: 2 + int(next, 9), width: 1 + int(next, 3) };
  const small = { maxHistory: int(next, 20), width: one(next, [1, 3, 5, 7, 12, 17]), timeGap, head: { kind: 'pooled', hidden: one(next, [[], [1], [5, 3]]) } } as const;
  if (next() < 0.2) return { ...one(next, [presets.base, presets.din, presets['sum-pooling']])(), ...small, unit: one(next, [[], [3]]) };
  const grows = next() < 0.5;
  const merge = one(next, [1, 2, 3, 8, 30]);
  const config: LongerConfig = {
    ...longerDefaults, ...small, merge, heads: 1, inner: { blocks: int(next, 2), heads: 1 }, selfLayers: int(next, 3), norm: one(next, ['layer', 'rms']), ffn: one(next, ['gelu', 'swiglu']), gate: next() < 0.3,
    queries: one(next, [{ kind: 'recent', k: 1 }, { kind: 'recent', k: 50 }, { kind: 'uniform', k: 50 }, { kind: 'learnable', k: 3 }, { kind: 'recent+uniform', recent: 30, uniform: 1 }, { kind: 'all' }] as const),
    globals: { uid: null, cls: int(next, 3) }, visibility: one(next, ['paper', 'anchored']), candidateEncoder: one(next, ['shared', 'own']), head: { ...small.head, kind: one(next, ['pooled', 'flatten']) },
  };
  if (config.maxHistory === 0) return { ...config, head: { ...small.head, kind: 'pooled' } };
  return grows && config.maxHistory >= merge ? { ...config, alignment: 'oldest', position: 'ordinal', timeGap: { ...timeGap, to: 'previous' } } : config;
}

const seeds = Number(process.env['LONGER_REGIONS'] ?? 20);

await t.test('the same bits alone, together, once, from caches, grown, opened, and in other threads', async (t) => {
  using runtime = new Runtime({ threads: 2 });
  using other = new Runtime({ threads: 1 });
  let grown = 0;
  for (let seed = 1; seed <= seeds; ++seed) {
    const next = random(seed);
    const schema = schemaFrom(next);
    const config = configFrom(next);
    const model = new ModelDescription(schema, config);
    const requests = Array.from({ length: 1 + int(next, 4) }, () => requestOf(schema, next, one(next, [0, 1, 2, 7, 40]), one(next, [0, 1, 3, 20])));
    const what = `seed ${seed}: ${JSON.stringify(config)} ${JSON.stringify(schema.spec)}`;
    using trainer = new Trainer(model, { ...trainDefaults, seed }, runtime);
    using ranker = new Ranker(model, trainer.state, runtime);
    const expected = await ranker.scoreOnce(requests);
    const alike = (name: string, scores: Float32Array): void => { if (!sameBits(scores, expected)) t.fail(`${name}, ${what}`); };
    t.ok(expected.every(Number.isFinite), what);
    const cache = await ranker.prefill(requests);
    alike('cached', await ranker.score(cache));
    const alone: number[] = [];
    for (const r of requests) alone.push(...(await ranker.scoreOnce([r])));
    alike('alone', Float32Array.from(alone));
    alike('in training', await trainer.predict(packBatch(schema, cache.requests, historyForm(config))));
    using paged = new PagedRanker(ranker, { bytes: 2 ** 22 });
    for (const outcome of ['found or not', 'found']) {
      const held = await paged.hold(requests);
      alike(`in pages, ${outcome}`, await paged.score(held));
      for (const h of held) h.release();
    }
    const directory = t.testdir();
    await trainer.save(directory, {});
    using opened = await Ranker.open(directory, { schema, runtime: other });
    alike('opened, one thread', await opened.scoreOnce(requests));
    if (appendRefusal(schema, config) !== null) continue;
    grown++;
    const cut = requests.map((r) => int(next, (r.history as object[]).length + 1));
    const before = requests.map((r, i) => ({ ...r, history: (r.history as never[]).slice(0, cut[i]), ...(schema.time ? { time: Number((r.history as { time: number }[])[cut[i]! - 1]?.time ?? 0) } : {}) }));
    using from = await ranker.prefill(before as never);
    using to = await ranker.append(from, requests.map((r, i) => ({ history: (r.history as never[]).slice(cut[i]), time: r.time })) as never);
    alike('grown', await ranker.score(to, requests.map((r) => r.candidates)));
  }
  t.ok(grown > 0, `${grown} models could grow`);
});

await t.test('5,000 candidates and no history', async (t) => {
  const next = random(5);
  const schema = defineSchema({ event: { item: id(9, 3) }, candidate: { item: id(9, 3) }, labels: { click: {} }, time: false });
  using runtime = new Runtime({ threads: 2 });
  using trainer = new Trainer(new ModelDescription(schema, { ...longerDefaults, maxHistory: 8, width: 3, merge: 3, heads: 1, inner: { blocks: 1, heads: 1 } }), trainDefaults, runtime);
  using ranker = new Ranker(trainer.model, trainer.state, runtime);
  const candidates = Array.from({ length: 5000 }, () => ({ item: int(next, 9) }));
  const all = await ranker.scoreOnce([{ history: [], candidates } as never]);
  using cache = await ranker.prefill([{ history: [] } as never]);
  t.ok(sameBits(await ranker.score(cache, [candidates]), all));
  t.ok(sameBits(await ranker.score(cache, [candidates.slice(4999)]), all.subarray(4999)), 'the last one alone');
});
