import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import type { Proof } from '../lib/cli/verify/proof.ts';
import { proofsOf, provers } from '../lib/cli/verify/proofs.ts';
import { makeSubject, type Subject, type SubjectSource } from '../lib/cli/verify/subject.ts';
import type { Batch } from '../lib/data/batch.ts';
import type { ModelConfig } from '../lib/model/config.ts';
import type { ModelInputs } from '../lib/model/layout.ts';
import { ModelDescription } from '../lib/model/model.ts';
import { Runtime } from '../lib/native/runtime.ts';
import { trainDefaults, type TrainOptions } from '../lib/train/options.ts';
import { Trainer } from '../lib/train/trainer.ts';
import { models, requests, richSchema, tiny } from './helpers.ts';

const lengths = [24, 5, 0, 17];
const counts = [3, 1, 0, 2];

function source(config: ModelConfig, train: Partial<TrainOptions> = {}): SubjectSource {
  return { model: new ModelDescription(richSchema, config), train: { ...trainDefaults, ...train }, requests: requests(lengths, counts, 3) };
}

const all = ['paper, uid and cls', 'anchored', 'learnable', 'uniform', 'no self layer', 'append-safe', 'banded', 'base', 'din'];

await t.test('every proof holds for every kind of model', async (t) => {
  for (const name of all) {
    using subject = makeSubject(source(models[name]!));
    const proofs = await proofsOf(subject);
    t.same(proofs.filter((p) => !p.pass), [], name);
    t.equal(proofs.length, subject.model.config.kind === 'longer' ? Object.keys(provers).length : 6, `${name}: none left out`);
  }
  for (const [name, train] of [['paper', { precision: 'bf16' }], ['anchored', { precision: { mode: 'bf16', full: ['head', 'layer0'] }, ema: 0.9 }]] as const) {
    using subject = makeSubject(source({ ...models[name]!, dropout: 0.1 } as ModelConfig, train));
    t.same((await proofsOf(subject)).filter((p) => !p.pass), [], `${name} in bf16`);
  }
});

/** A model whose inputs are laid out wrongly. */
class Spoiled extends ModelDescription {
  readonly #spoil: (inputs: ModelInputs) => void;

  constructor(config: ModelConfig, spoil: (inputs: ModelInputs) => void) {
    super(richSchema, config);
    this.#spoil = spoil;
  }

  override inputs(batch: Batch): ModelInputs {
    const inputs = super.inputs(batch);
    this.#spoil(inputs);
    return inputs;
  }

  override historyInputs(batch: Batch): ModelInputs {
    const inputs = super.historyInputs(batch);
    this.#spoil(inputs);
    return inputs;
  }
}

/** Every limit but those at an end, one too many or one too few. */
function shiftLimits(name: 'cross.limits' | 'self.limits', by: number) {
  return ({ arrays }: ModelInputs): void => {
    const limits = arrays.get(name) as Int32Array;
    const keys = arrays.get(name === 'cross.limits' ? 'key.offsets' : 'query.offsets')!;
    const asking = arrays.get('query.offsets')!;
    for (let r = 0; r + 1 < asking.length; ++r)
      for (let i = asking[r]!; i < asking[r + 1]!; ++i) limits[i] = Math.min(keys[r + 1]! - keys[r]!, Math.max(1, limits[i]! + by));
  };
}

/** Each event in the place of its older neighbour: groups no longer end at the newest. */
function shiftEvents({ arrays }: ModelInputs): void {
  for (const [name, column] of arrays) if (/^event\.(item|action|dwell)$/.test(name)) arrays.set(name, Int32Array.from(column, (_, i) => column[(i + 1) % column.length]!));
}

await t.test('a wrong layout fails the proofs that it breaks', async (t) => {
  const older = ({ arrays }: ModelInputs): void => {
    const keys = arrays.get('key.offsets')!;
    arrays.set('query.index', Int32Array.from(arrays.get('query.index')!, (i) => (keys.includes(i) ? i : i - 1)));
  };
  const wide = { ...tiny, selfLayers: 2 };
  const anchored = models['anchored']!;
  const cases: readonly (readonly [string, ModelConfig, (inputs: ModelInputs) => void, readonly string[]])[] = [
    ['cross limits one too many', wide, shiftLimits('cross.limits', 1), ['mask', 'no look-ahead']],
    ['cross limits one too few', wide, shiftLimits('cross.limits', -1), ['mask']],
    ['self limits one too many', wide, shiftLimits('self.limits', 1), ['mask', 'no look-ahead']],
    ['self limits one too few', wide, shiftLimits('self.limits', -1), ['mask']],
    ['anchored, cross limits one too many', anchored, shiftLimits('cross.limits', 1), ['mask', 'no look-ahead']],
    ['anchored, cross limits one too few', anchored, shiftLimits('cross.limits', -1), ['mask']],
    ['learnable queries see too little', models['learnable']!, shiftLimits('cross.limits', -1), ['mask']],
    ['events moved against their groups', tiny, shiftEvents, ['merge alignment']],
    ['others ask', tiny, older, ['query selection']],
  ];
  for (const [name, config, spoil, wanted] of cases) {
    using subject = makeSubject({ ...source(config), model: new Spoiled(config, spoil) });
    const failed: string[] = [];
    for (const prove of [provers.mask, provers.noLookAhead, provers.mergeAlignment, provers.querySelection]) {
      const proof = await prove(subject);
      if (proof && !proof.pass) failed.push(proof.mechanism);
    }
    t.ok(wanted.every((w) => failed.includes(w)), `${name}: ${failed.join(', ')}`);
  }
});

await t.test('a wrong computation fails the proof of its mechanism', async (t) => {
  using real = makeSubject(source(tiny, { ema: 0 }));
  const check = async (name: keyof typeof provers, what: string, spoiled: Partial<Subject>): Promise<void> => {
    const proof = (await provers[name]({ ...real, ...spoiled })) as Proof;
    t.notOk(proof.pass, `${what}: ${proof.measured}`);
    t.ok(((await provers[name](real)) as Proof).pass, `${name} holds without`);
  };
  const shift = (logits: Float32Array, by: (i: number) => number): Float32Array => logits.map((x, i) => x + by(i));

  await check('candidateIsolation', 'each candidate sees the others', {
    forward: async (list) => {
      const logits = await real.forward(list);
      const sum = logits.reduce((a, b) => a + b, 0);
      return shift(logits, () => 1e-3 * sum);
    },
  });
  await check('candidateIsolation', 'the place among the candidates counts', { forward: async (list) => shift(await real.forward(list), (i) => 1e-4 * i) });
  await check('candidateIsolation', 'candidates are not read at all', { forward: async (list) => (await real.forward(list)).fill(0.5) });
  await check('paddingInvariance', 'too old events count', {
    forward: async (list) => {
      const old = list.reduce((n, r) => n + Math.max(0, r.events - tiny.maxHistory), 0);
      return shift(await real.forward(list), () => 1e-4 * old);
    },
  });
  await check('paddingInvariance', 'the number of requests counts', { forward: async (list) => shift(await real.forward(list), () => 1e-4 * list.length) });
  await check('threadInvariance', 'the number of threads counts', { forward: async (list, threads) => shift(await real.forward(list, threads), () => 1e-4 * (threads ?? 1)) });
  let calls = 0;
  await check('determinism', 'the calls before count', { forward: async (list) => shift(await real.forward(list), () => 1e-4 * ++calls) });

  using trainer = real.trainer();
  const parameters = real.model.parameters(trainer.state);
  const changed = (name: string): Subject => {
    const { data, shape } = parameters.get(name)!;
    const tensors = new Map([...parameters, [name, { data: data.with(0, data[0]! + 0.1), shape }]]);
    return makeSubject({ ...source(tiny), checkpoint: { directory: '', step: 0, config: {}, schema: {}, progress: {}, versions: {}, tensors, optimizer: null } });
  };
  using other = changed('layer1.qkv.query.weight');
  using uneven = changed('layer0.qkv.key.weight');
  await check('cacheEquality', 'one weight changes between prefill and score', { score: other.score });
  await check('cacheEquality', 'the cache depends on the candidates', { prefill: (list) => (list.some((r) => r.candidates > 0) ? real : uneven).prefill(list) });

  const forgetful = (restore: (trainer: Trainer, checkpoint: Parameters<Trainer['restore']>[0]) => void): Partial<Subject> => ({
    trainer: (threads) => {
      const trainer = real.trainer(threads);
      trainer.restore = (checkpoint) => { restore(trainer, checkpoint); };
      return trainer;
    },
  });
  await check('resume', 'optimizer state is forgotten', forgetful((trainer, checkpoint) => { trainer.model.load(trainer.state, checkpoint.tensors); }));
  await check('resume', 'one optimizer value is lost', forgetful((trainer, checkpoint) => {
    const first = checkpoint.optimizer!.get('dense.first')!;
    (first.data as Float32Array)[first.data.findIndex((x) => x !== 0)] = 0;
    Trainer.prototype.restore.call(trainer, checkpoint);
  }));
});

await t.test('the command reads a checkpoint of any schema in the precision of its training', async (t) => {
  const directory = t.testdir();
  using runtime = new Runtime({ threads: 2 });
  using trainer = new Trainer(new ModelDescription(richSchema, models['anchored']!), { ...trainDefaults, precision: 'bf16' }, runtime);
  await trainer.save(directory, {});
  const main = join(import.meta.dirname, '..', 'lib', 'cli', 'main.ts');
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => name !== 'NODE_OPTIONS')); // tap's own loader
  const run = spawnSync(process.execPath, ['--import', 'tsx', main, 'verify', '--model', directory, '--json'], { encoding: 'utf8', env });
  t.equal(run.status, 0, run.stderr + run.stdout);
  const report = JSON.parse(run.stdout) as { proofs: Proof[] };
  t.match(report, { precision: 'bf16', pass: true });
  t.equal(report.proofs.length, Object.keys(provers).length);
});
