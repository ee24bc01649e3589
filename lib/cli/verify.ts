import { Command } from 'commander';
import { packBatch } from '../data/batch.ts';
import { Dataset } from '../data/reader.ts';
import { makeWorld, worldDefaults, worldSchema } from '../data/world.ts';
import { lower } from '../graph/lower.ts';
import type { LongerConfig, ModelConfig } from '../model/config.ts';
import { ModelDescription } from '../model/model.ts';
import { historyRows, anchorCount } from '../model/visibility.ts';
import { Plan, Runtime, State } from '../native/plan.ts';
import { Ranker } from '../rank/ranker.ts';
import { encodeRequest, type EncodedRequest } from '../schema/encode.ts';
import { fullPlan } from '../train/trainer.ts';
import { loadCheckpoint } from '../model/checkpoint.ts';
import { schemaFromJSON } from '../schema/schema.ts';
import { presetNamed } from './config_file.ts';
import { print, table, wholeNumber } from './files.ts';

export interface Proof {
  readonly mechanism: string;
  readonly claim: string;
  readonly measured: string;
  readonly pass: boolean;
}

/** Everything a proof needs: a model with its parameters, on two runtimes. */
interface Bench {
  readonly model: ModelDescription;
  readonly state: State;
  readonly one: Runtime;
  readonly many: Runtime;
  readonly requests: readonly EncodedRequest[];
}

export function verifyCommand(): Command {
  return new Command('verify')
    .description('prove each mechanism of the paper on a model: caching, isolation, masks, alignment, thread invariance')
    .option('--model <dir or name>', 'checkpoint directory or model name', 'longer')
    .option('--data <file>', 'requests to prove it on (default: made ones; needed for a checkpoint of another schema)')
    .option('--requests <n>', 'requests used', wholeNumber, 12)
    .option('--json', 'as JSON')
    .action(async (o: { model: string; data?: string; requests: number; json?: boolean }) => {
      const bench = await open(o.model, o.data, o.requests);
      const proofs = await verifyModel(bench);
      print(o.json, { model: bench.model.config.kind, pass: proofs.every((p) => p.pass), proofs }, () =>
        table([['', 'mechanism', 'claim', 'measured'], ...proofs.map((p) => [p.pass ? 'pass' : 'FAIL', p.mechanism.padEnd(24), p.claim.padEnd(66), p.measured])]),
      );
      if (!proofs.every((p) => p.pass)) process.exitCode = 1;
      for (const d of [bench.state, bench.one, bench.many]) d.dispose();
    });
}

async function open(name: string, data: string | undefined, count: number): Promise<Bench> {
  const runtimes = { one: new Runtime({ threads: 1 }), many: new Runtime({ threads: 3 }) };
  const world = { ...worldDefaults, historyLength: 300, requests: count, candidates: 5 };
  let model: ModelDescription;
  let state: State;
  if (/[/\\.]/.test(name)) {
    const checkpoint = await loadCheckpoint(name, { optimizer: false });
    model = new ModelDescription(schemaFromJSON(checkpoint.schema), checkpoint.config['model'] as unknown as ModelConfig);
    state = new State(model.layout.stores());
    model.load(state, checkpoint.tensors);
  } else {
    model = new ModelDescription(worldSchema(world), presetNamed(name));
    state = new State(model.layout.stores());
    model.initialise(state, 11);
  }
  const requests: EncodedRequest[] = [];
  if (data === undefined) for (const s of makeWorld(world)) requests.push(encodeRequest(model.schema, s.request as never));
  else
    for await (const r of new Dataset(data, model.schema)) {
      requests.push(r);
      if (requests.length >= count) break;
    }
  return { model, state, ...runtimes, requests };
}

/** Runs every proof. Equality means the same bits. */
export async function verifyModel(bench: Bench): Promise<Proof[]> {
  const proofs: Proof[] = [];
  const { model, requests } = bench;
  const full = await logits(bench, bench.many, requests);
  const add = (mechanism: string, claim: string, worst: number, checks: number): void => {
    proofs.push({ mechanism, claim, measured: `${checks} numbers, largest difference ${worst}`, pass: worst === 0 && checks > 0 });
  };
  const one = await logits(bench, bench.one, requests);
  add('thread invariance', '1 thread = 3 threads', difference(full, one), full.length);

  const ranker = new Ranker(model, bench.state, bench.many);
  const prefilled = await ranker.prefill(requests);
  const cached = await ranker.score(prefilled);
  add('KV cache', 'full forward = prefill + score', difference(full, cached), full.length);

  let at = 0;
  let worst = 0;
  const tasks = model.schema.tasks.length;
  for (const r of requests) {
    const n = r.candidates * tasks;
    worst = Math.max(worst, difference(await logits(bench, bench.many, [r]), full.subarray(at, at + n)));
    at += n;
  }
  add('no padding', 'a request alone = the request in a batch', worst, full.length);

  worst = 0;
  at = 0;
  for (const r of requests) {
    for (let c = 0; c < r.candidates; ++c) {
      const alone = await logits(bench, bench.many, [onlyCandidate(model, r, c)]);
      worst = Math.max(worst, difference(alone, full.subarray((at + c) * tasks, (at + c + 1) * tasks)));
    }
    at += r.candidates;
  }
  add('candidate isolation', 'a candidate alone = among the others', worst, full.length);

  const other = requests.map((r) => onlyCandidate(model, r, 0));
  const again = await ranker.prefill(other);
  worst = Math.max(...[...prefilled.arrays].map(([name, a]) => difference(a, again.arrays.get(name)!)));
  add('candidate independence', 'the cache is the same whatever the candidates are', worst, [...prefilled.arrays.values()].reduce((n, a) => n + a.length, 0));
  ranker.dispose();
  if (model.config.kind === 'longer') proofs.push(...(await structure(bench, model.config)));
  return proofs;
}

/** Mask, alignment and look-ahead of the history side. */
async function structure(bench: Bench, c: LongerConfig): Promise<Proof[]> {
  const { model } = bench;
  const proofs: Proof[] = [];
  const source = bench.requests.reduce((a, b) => (b.events > a.events ? b : a));
  const anchors = anchorCount(c);
  const plan = new Plan(lower(model.prefill(), model.layout), bench.state, bench.many);
  const last = model.cache.filter((e) => /^k\d+$/.test(e.name)).at(-1)!;
  const keys = async (request: EncodedRequest): Promise<{ rows: Float32Array[]; first: Float32Array[] }> => {
    const batch = packBatch(model.schema, [request], { maxHistory: c.maxHistory });
    const { sizes, arrays } = model.inputs(batch);
    const out = new Map(model.cache.map((e) => [`cache.${e.name}`, new Float32Array(e.width * [...e.rows.terms].reduce((n, [s, k]) => n + k * sizes[s]!, e.rows.constant))]));
    await plan.run(sizes, arrays, out);
    const split = (name: string, width: number): Float32Array[] => {
      const a = out.get(`cache.${name}`)!;
      return Array.from({ length: a.length / width }, (_, i) => a.subarray(i * width, (i + 1) * width));
    };
    return { rows: split(last.name, last.width), first: split('k0', last.width) };
  };
  const before = await keys(source);
  const learnable = c.queries.kind === 'learnable';

  // Changing the newest event may change its own group's row and nothing older.
  const field = model.schema.sides.event.fields[0]!;
  const touched = changeEvent(source, field.name, source.events - 1, model.schema.tables[field.table]!.size);
  const after = await keys(touched);
  const groups = before.first.length - anchors;
  let older = 0;
  for (let g = 0; g < groups - 1; ++g) older = Math.max(older, difference(before.first[anchors + g]!, after.first[anchors + g]!));
  const own = difference(before.first.at(-1)!, after.first.at(-1)!);
  proofs.push({ mechanism: 'merge alignment', claim: `the newest event belongs to the newest group of ${c.merge} and to no other`, measured: `older groups change by ${older}, its own by ${own.toExponential(1)}`, pass: older === 0 && own > 0 });
  if (!learnable && c.selfLayers > 0 && anchors === 0) {
    let look = 0;
    for (let i = 0; i < before.rows.length - 1; ++i) look = Math.max(look, difference(before.rows[i]!, after.rows[i]!));
    proofs.push({ mechanism: 'causal mask', claim: 'after the cross layer no older row has seen the newest event', measured: `older rows change by ${look}, its own by ${difference(before.rows.at(-1)!, after.rows.at(-1)!).toExponential(1)}`, pass: look === 0 });
    const oldest = await keys(changeEvent(source, field.name, Math.max(0, source.events - Math.min(source.events, c.maxHistory)), model.schema.tables[field.table]!.size));
    // A sharp softmax may round a far event away, so most rows have to show it, not each.
    const reached = before.rows.filter((row, i) => difference(row, oldest.rows[i]!) > 0).length;
    proofs.push({ mechanism: 'hybrid attention', claim: 'asking rows see the oldest event of the history', measured: `${reached} of ${before.rows.length} rows change with it`, pass: 2 * reached > before.rows.length });
  }
  const rows = historyRows(c, { requests: 1, eventCounts: Int32Array.of(Math.min(source.events, c.maxHistory)) });
  const limits = Array.from(rows.crossLimits);
  const ascending = limits.slice(anchors).every((x, i, a) => i === 0 || x >= a[i - 1]!);
  proofs.push({ mechanism: 'visibility', claim: 'limits ascend with recency and never pass the request', measured: `${limits.length} rows, limits ${limits.at(anchors)} .. ${limits.at(-1)} of ${anchors + groups} keys`, pass: ascending && Math.max(...limits) <= anchors + groups });

  // An older event past maxHistory changes nothing.
  const bounded = { ...source, events: source.events };
  const full = await logits(bench, bench.many, [bounded]);
  const repeat = await logits(bench, bench.many, [bounded]);
  proofs.push({ mechanism: 'determinism', claim: 'the same request twice gives the same bits', measured: `largest difference ${difference(full, repeat)}`, pass: difference(full, repeat) === 0 });
  plan.dispose();
  return proofs;
}

async function logits(bench: Bench, runtime: Runtime, requests: readonly EncodedRequest[]): Promise<Float32Array> {
  const plan = fullPlan(bench.model, bench.state, runtime);
  const batch = packBatch(bench.model.schema, requests, { maxHistory: bench.model.config.maxHistory });
  const { sizes, arrays } = bench.model.inputs(batch);
  const out = new Float32Array(batch.candidates * bench.model.schema.tasks.length);
  await plan.run(sizes, arrays, new Map([['logits', out]]));
  plan.dispose();
  return out;
}

function difference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity;
  let worst = 0;
  for (let i = 0; i < a.length; ++i) worst = Math.max(worst, Math.abs(a[i]! - b[i]!));
  return worst;
}

function onlyCandidate(model: ModelDescription, r: EncodedRequest, c: number): EncodedRequest {
  const { numericCount } = model.schema.sides.candidate;
  const tasks = model.schema.tasks.length;
  const ids = new Map<string, Int32Array>();
  const offsets = new Map<string, Int32Array>();
  for (const [name, all] of r.candidate.ids) {
    const o = r.candidate.offsets.get(name);
    ids.set(name, o ? all.slice(o[c]!, o[c + 1]!) : all.slice(c, c + 1));
    if (o) offsets.set(name, Int32Array.of(0, o[c + 1]! - o[c]!));
  }
  return {
    ...r,
    candidates: 1,
    candidate: { ids, offsets, numeric: r.candidate.numeric.slice(c * numericCount, (c + 1) * numericCount) },
    labels: r.labels.slice(c * tasks, (c + 1) * tasks),
  };
}

function changeEvent(r: EncodedRequest, feature: string, index: number, size: number): EncodedRequest {
  const ids = new Map(r.event.ids);
  const column = Int32Array.from(ids.get(feature)!);
  column[index] = (column[index]! + 1) % size;
  ids.set(feature, column);
  return { ...r, event: { ...r.event, ids } };
}
