import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { evaluateCommand } from '../lib/cli/evaluate.ts';
import { trainCommand } from '../lib/cli/train.ts';
import { makeWorld, worldDefaults, worldSchema } from '../lib/data/world.ts';
import { loadCheckpoint } from '../lib/model/checkpoint.ts';

const options = { ...worldDefaults, items: 40, categories: 8, users: 20, historyLength: 12, requests: 120, candidates: 4 };
const lines = [...makeWorld(options)].map(({ request }) => JSON.stringify(request, (_, v: unknown) => (ArrayBuffer.isView(v) ? Array.from(v as Float64Array) : v)));

t.test('--keep-best keeps the epoch of the best validation AUC, --patience stops after it', async (t) => {
  const dir = t.testdir({
    'schema.json': JSON.stringify(worldSchema(options).toJSON()),
    'train.jsonl': `${lines.slice(0, 60).join('\n')}\n`,
    'valid.jsonl': `${lines.slice(60).join('\n')}\n`,
    // A rate this high overfits at once, so that the best epoch is not the last.
    'config.json': JSON.stringify({ model: { preset: 'din', width: 8, unit: [8] }, train: { epochs: 30, batch: { maxRequests: 8 }, dense: { learningRate: 0.03 }, schedule: { warmup: 0, kind: 'constant', floor: 1 } } }),
  });
  const path = (name: string): string => join(dir, name);
  const train = ['--data', path('train.jsonl'), '--schema', path('schema.json'), '--config', path('config.json'), '--threads', '1', '--json'];
  const printed = t.capture(process.stdout, 'write', () => true);
  await trainCommand().parseAsync([...train, '--out', path('model'), '--valid', path('valid.jsonl'), '--keep-best', '--patience', '3'], { from: 'user' });

  const log = (await readFile(path('model/metrics.jsonl'), 'utf8')).trim().split('\n').map((l) => JSON.parse(l) as { step: number; epoch: number; valid?: { click: { auc: number } } });
  const epochs = log.filter((l) => l.valid).map((l) => ({ epoch: l.epoch, step: l.step, auc: l.valid!.click.auc }));
  const best = epochs.reduce((a, b) => (b.auc > a.auc ? b : a));
  t.equal(epochs.at(-1)!.epoch, best.epoch + 3, 'three epochs without a better one end the run');
  t.ok(epochs.length < 30);
  const kept = await loadCheckpoint(path('model/best'));
  t.equal(kept.step, best.step);
  t.strictSame(kept.progress['best'], best);
  t.strictSame((await loadCheckpoint(path('model'))).progress['best'], best, 'a run that goes on knows it');

  await evaluateCommand().parseAsync(['--model', path('model/best'), '--data', path('valid.jsonl'), '--threads', '1', '--json'], { from: 'user' });
  const shown = JSON.parse(String(printed().at(-1)!.args[0])) as { tasks: { click: { values: { auc: number } } } };
  t.equal(shown.tasks.click.values.auc, best.auc, 'the kept checkpoint gives the AUC that chose it');
});

t.test('without validation requests they are refused', async (t) => {
  const dir = t.testdir({ 'schema.json': JSON.stringify(worldSchema(options).toJSON()), 'train.jsonl': `${lines[0]}\n` });
  await t.rejects(trainCommand().parseAsync(['--data', join(dir, 'train.jsonl'), '--schema', join(dir, 'schema.json'), '--out', join(dir, 'm'), '--keep-best'], { from: 'user' }), { code: 'ERR_CONFIG' });
});
