import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { readRunConfig } from '../lib/cli/config_file.ts';
import { configSchema, datasetSchema } from '../lib/cli/settings.ts';
import { LongerError } from '../lib/errors.ts';
import { presets } from '../lib/model/config.ts';
import { modelShape } from '../lib/model/shape.ts';
import { schemaFromJSON } from '../lib/schema/schema.ts';
import { trainDefaults, type TrainOptions } from '../lib/train/options.ts';
import { checkTrainOptions } from '../lib/train/shape.ts';
import { trainShape } from '../lib/train/shape.ts';
import { richSchema, variants } from './helpers.ts';

const ajv = new Ajv2020({ strict: false });

t.test('the published schemas are valid', (t) => {
  for (const schema of [configSchema(), datasetSchema()]) t.ok(ajv.validateSchema(schema));
  t.strictSame((trainShape.json()['required'] as string[]).sort(), Object.keys(trainDefaults).sort(), 'every option of the trainer can be set');
  t.end();
});

t.test('every default and variant has its shape', (t) => {
  for (const preset of Object.values(presets)) modelShape.check(preset(), 'model', 'ERR_CONFIG');
  for (const config of Object.values(variants)) modelShape.check(config, 'model', 'ERR_CONFIG');
  checkTrainOptions(trainDefaults);
  t.equal(schemaFromJSON(JSON.parse(JSON.stringify(richSchema)) as object).hash, richSchema.hash);
  t.end();
});

async function config(t: Test, value: unknown): Promise<ReturnType<typeof readRunConfig>> {
  const path = join(t.testdir(), 'config.json');
  writeFileSync(path, JSON.stringify(value));
  return readRunConfig(path, undefined);
}

const wrong: readonly (readonly [unknown, string, RegExp])[] = [
  [{ modle: {} }, '', /unknown key 'modle'; did you mean 'model'/],
  [{ model: { preset: 'longr' } }, '', /did you mean 'longer'/],
  [{ model: { mergee: 4 } }, ': model', /unknown key 'mergee'; did you mean 'merge'/],
  [{ model: { inner: { block: 1 } } }, ': model.inner', /did you mean 'blocks'/],
  [{ model: { queries: { kind: 'recnt', k: 3 } } }, ': model.queries.kind', /did you mean "recent"/],
  [{ model: { queries: { kind: 'recent+uniform', k: 3 } } }, ': model.queries', /unknown key 'k'/],
  [{ model: { queries: { kind: 'recent+uniform', recent: 3 } } }, ': model.queries', /'uniform' is missing/],
  [{ model: { queries: { k: 0 } } }, ': model.queries.k', /whole number of at least 1, got 0/],
  [{ model: { norm: 'rmsnorm' } }, ': model.norm', /expected "layer" or "rms"/],
  [{ model: { gate: 'yes' } }, ': model.gate', /expected true or false, got "yes"/],
  [{ model: { head: { hidden: [64, 0.5] } } }, ': model.head.hidden[1]', /whole number/],
  [{ model: { head: { hidden: 64 } } }, ': model.head.hidden', /expected a list/],
  [{ model: { dropout: 1 } }, ': model.dropout', /below 1, got 1/],
  [{ model: [] }, ': model', /expected an object/],
  [{ train: { dense: { kind: 'adam' } } }, ': train.dense.kind', /"adamw" or "rmsprop", got "adam"/],
  [{ train: { dense: { kind: 'rmsprop' } } }, ': train.dense', /is missing/],
  [{ train: { dense: { beta3: 1 } } }, ': train.dense', /did you mean 'beta1'|did you mean 'beta2'/],
  [{ train: { recompute: 'blocks' } }, ': train.recompute', /did you mean "block"/],
  [{ train: { recompute: { budgt: 1 } } }, ': train.recompute', /did you mean 'budget'/],
  [{ train: { schedule: { kind: 'linear' } } }, ': train.schedule.kind', /"constant" or "cosine"/],
  [{ train: { batch: { maxEvents: -1 } } }, ': train.batch.maxEvents', /whole number of at least 1, got -1/],
  [{ train: { seed: '1' } }, ': train.seed', /got "1"/],
  [{ train: null }, ': train', /expected an object, got null/],
];

await t.test('what is wrong is named with its path, and the published schema refuses it too', async (t) => {
  const validate = ajv.compile(configSchema());
  for (const [value, place, message] of wrong) {
    const error = await config(t, value).then(() => undefined, (e: unknown) => e);
    t.ok(error instanceof LongerError && error.code === 'ERR_CONFIG', JSON.stringify(value));
    t.match((error as LongerError).message, message);
    if (place !== '') t.ok((error as LongerError).place?.endsWith(`config.json${place}`), String(error));
    // What a changed kind has to bring depends on the model below it, which a schema of the file alone cannot say.
    if (!/is missing/.test(message.source)) t.notOk(validate(value), JSON.stringify(value));
  }
});

t.test('the trainer refuses what a config file may not hold', (t) => {
  const wrong: readonly (readonly [Record<string, unknown>, string, RegExp])[] = [
    [{ dense: { ...trainDefaults.dense, fanInBase: 1.5 } }, 'train.dense.fanInBase', /whole number of at least 0, got 1.5/],
    [{ dense: { ...trainDefaults.dense, beta1: 1 } }, 'train.dense.beta1', /below 1/],
    [{ batch: { maxEvents: 10.5, maxRequests: 4, maxCandidates: 4 } }, 'train.batch.maxEvents', /whole number/],
    [{ schedule: { ...trainDefaults.schedule, warmup: -1 } }, 'train.schedule.warmup', /at least 0/],
    [{ sparseSchedule: { warmup: 0, kind: 'linear', floor: 1 } }, 'train.sparseSchedule.kind', /"constant" or "cosine"/],
    [{ shufleWindow: 3 }, 'train', /unknown key 'shufleWindow'; did you mean 'shuffleWindow'/],
    [{ ema: 1 }, 'train.ema', /below 1, got 1/],
  ];
  for (const [over, place, message] of wrong) t.throws(() => { checkTrainOptions({ ...trainDefaults, ...over } as unknown as TrainOptions); }, { code: 'ERR_CONFIG', place, message });
  t.end();
});

await t.test('what is given is laid over the preset', async (t) => {
  const run = await config(t, { $schema: './x', model: { preset: 'transformer', queries: { kind: 'uniform', k: 7 } }, train: { dense: { kind: 'rmsprop', alpha: 0.9, momentum: 0 } } });
  t.strictSame(run.model, { ...presets.transformer(), queries: { kind: 'uniform', k: 7 } });
  t.strictSame(run.train.dense, { kind: 'rmsprop', learningRate: 1e-3, weightDecay: 0.01, fanInBase: 64, eps: 1e-8, alpha: 0.9, momentum: 0 });
});

await t.test('any spoiled config: the command and the published schema agree', async (t) => {
  const validate = ajv.compile(configSchema());
  const leaf = fc.constantFrom<unknown>(null, true, '', 'recent', 'adam', 'layer', 0, 1, 4, -1, 0.5, 1e9, [], [4], {}, { kind: 'all' }, { budget: 5 });
  const keys = (o: object): string[] => [...Object.keys(o), 'kind', 'k', 'budget', 'nope'];
  const part = (o: object) => fc.dictionary(fc.constantFrom(...keys(o)), leaf, { maxKeys: 3 });
  const tree = fc.record({ model: part(presets.longer()), train: part(trainDefaults) }, { requiredKeys: [] });
  await fc.assert(fc.asyncProperty(tree, async (value) => {
    const error = await config(t, value).then(() => undefined, (e: unknown) => e);
    if (error !== undefined && !(error instanceof LongerError)) throw error as Error;
    const accepted = error === undefined;
    // A baseline's kind over LONGER's settings has to bring what LONGER lacks.
    if (!accepted && /is missing/.test((error).message)) return true;
    return accepted === validate(value);
  }), { numRuns: 400, seed: 7 });
});

t.test('a schema.json: unknown keys and wrong values at every depth', (t) => {
  const good = { version: 1, event: { item: { type: 'id', size: 5, width: 2 } }, candidate: { item: { type: 'id', size: 5, width: 2 } }, labels: { click: {} }, time: true };
  schemaFromJSON(good);
  const validate = ajv.compile(datasetSchema());
  t.ok(validate(good));
  const cases: readonly (readonly [object, RegExp])[] = [
    [{ ...good, evnt: {} }, /unknown key 'evnt'; did you mean 'event'/], [{ ...good, time: 'yes' }, /schema\.time: expected true or false/],
    [{ ...good, event: { item: { type: 'idd' } } }, /schema\.event\.item\.type: .*did you mean "id"/], [{ ...good, event: { item: { type: 'id', sise: 5, width: 2 } } }, /schema\.event\.item: unknown key 'sise'; did you mean 'size'/],
    [{ ...good, event: { item: { type: 'ids', size: 5, width: 2, pooling: 'max' } } }, /schema\.event\.item\.pooling: expected "sum" or "mean"/],
    [{ ...good, labels: { click: { weight: -1 } } }, /schema\.labels\.click\.weight/], [{ ...good, tables: { t: { size: 0, width: 1 } } }, /schema\.tables\.t\.size: .*at least 1/],
    [{ ...good, user: { age: { type: 'numeric', std: 0 } } }, /schema\.user\.age\.std: .*above 0/],
  ];
  for (const [value, message] of cases) {
    t.throws(() => schemaFromJSON(value), { code: 'ERR_SCHEMA', message });
    t.notOk(validate(value), JSON.stringify(value));
  }
  for (const value of [null, [], 'x']) t.throws(() => schemaFromJSON(value as never), { code: 'ERR_SCHEMA' });
  t.end();
});
