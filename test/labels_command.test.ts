import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import t from 'tap';
import { evaluateCommand } from '../lib/cli/evaluate.ts';
import { prepareCommand } from '../lib/cli/prepare.ts';
import { scoreCommand } from '../lib/cli/score.ts';
import { trainCommand } from '../lib/cli/train.ts';
import { longerHere } from './command.ts';
import { tiny } from './helpers.ts';

/** A user, an item, a time, what was done, and how long it was watched: of every fourth event that is not known. */
const rows = Array.from({ length: 240 }, (_, i) => ({ user: `u${i % 6}`, item: `i${(i * i) % 11}`, time: i, did: ['view', 'like', 'view', 'share', 'view'][i % 5]!, watched: i % 4 === 0 ? '' : (i * 37) % 100 }));

await t.test('several labels of one log are prepared, trained, judged and scored', async (t) => {
  const dir = t.testdir({
    'log.csv': `${Object.keys(rows[0]!).join(',')}\n${rows.map((r) => Object.values(r).join(',')).join('\n')}\n`,
    'config.json': JSON.stringify({ model: tiny, train: { batch: { maxRequests: 8 } } }),
  });
  const at = (name: string): string => join(dir, name);
  const run = async (command: Command, ...args: string[]): Promise<string> => {
    const { out, said } = await longerHere(command, ...args);
    t.equal(said, '', command.name());
    return out;
  };
  const made = await run(prepareCommand(), '--events', at('log.csv'), '--out', at('data'), '--time', 'time', '--action', 'did', '--split', 'time', '--test-size', '0.2', '--valid-size', '0.2', '--candidates', '8',
    '--label', 'like=did:like,share', '--label', 'long=watched>=50');
  t.match(made, /positives +train +valid +test\nlike +\d+ of 144 \([^\n]+\nlong +\d+ of 108 /);
  const trained = await run(trainCommand(), '--data', at('data/train.parquet'), '--schema', at('data/schema.json'), '--valid', at('data/valid.parquet'), '--keep-best', '--config', at('config.json'), '--threads', '1', '--out', at('model'), '--json');
  const { valid, best } = JSON.parse(trained) as { valid: Record<string, { auc: number }>; best: { auc: number } };
  t.strictSame(Object.keys(valid), ['like', 'long']);
  t.ok(best.auc > 0 && Math.abs(best.auc - (valid['like']!.auc + valid['long']!.auc) / 2) < 1e-12, 'the best is of the mean of the tasks');

  type Tasks = Record<string, { samples: number; positives: number; values: { logLoss: number } }>;
  const { tasks } = JSON.parse(await run(evaluateCommand(), '--model', at('model'), '--data', at('data/test.parquet'), '--threads', '1', '--json')) as { tasks: Tasks };
  await run(scoreCommand(), '--model', at('model'), '--requests', at('data/test.parquet'), '--out', at('scores.jsonl'), '--threads', '1');
  const scores = (await readFile(at('scores.jsonl'), 'utf8')).trim().split('\n').map((line) => JSON.parse(line) as Record<string, { logits: number[] }>);
  // The newest fifth of the log by user and time, as the test part has it.
  const last = rows.slice(191).sort((a, b) => a.user.localeCompare(b.user) || a.time - b.time);
  const truth = { like: last.map((r) => Number(['like', 'share'].includes(r.did))), long: last.map((r) => (r.watched === '' ? null : Number(Number(r.watched) >= 50))) };
  for (const [task, labels] of Object.entries(truth)) {
    const logits = scores.flatMap((s) => s[task]!.logits);
    t.equal(logits.length, labels.length);
    const losses = logits.flatMap((z, i) => (labels[i] === null ? [] : [Math.log1p(Math.exp(labels[i] === 1 ? -z : z))]));
    t.match(tasks[task], { samples: losses.length, positives: labels.filter((y) => y === 1).length });
    t.ok(Math.abs(losses.reduce((a, b) => a + b, 0) / losses.length - tasks[task]!.values.logLoss) < 1e-6, `${task}: the loss is that of the labels of its own rule`);
  }
});
