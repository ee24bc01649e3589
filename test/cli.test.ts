import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { args, env, longer, root } from './command.ts';
import { asRequest, flatRequests, writeJsonl } from './data_files.ts';
import { richSchema, tiny } from './helpers.ts';


t.test('exit codes and hints', (t) => {
  const cases: readonly (readonly [string[], number, RegExp])[] = [
    [['--help'], 0, /Usage: longer/],
    [['train', '--help'], 0, /--tensorboard <dir>/],
    [['trian'], 2, /Did you mean train\?/],
    [['doctor', '--jsn'], 2, /Did you mean --json\?/],
    [['train'], 2, /required option '--data <file>'/],
    [['train', '--data', 'x.jsonl', '--schema', 'none.json', '--out', '/tmp/none'], 1, /none\.json: the schema cannot be read/],
    [['inspect', '--model', 'longr', '--schema', 'x'], 2, /did you mean 'longer'/],
    [['inspect'], 2, /give --model/],
    [['doctor', '--json'], 0, /"package"/],
  ];
  for (const [command, code, message] of cases) {
    const r = longer(...command);
    t.equal(r.status, code, `${command.join(' ')}: ${r.stderr}`);
    t.match(r.stdout + r.stderr, message);
  }
  t.end();
});

/** A model's settings, data and schema in a folder, for some hundred steps. */
function project(dir: string): string[] {
  writeJsonl(join(dir, 'data.jsonl'), flatRequests(1200));
  writeFileSync(join(dir, 'schema.json'), JSON.stringify(richSchema));
  writeFileSync(join(dir, 'config.json'), JSON.stringify({ model: { ...tiny, dropout: 0.1 }, train: { epochs: 2, batch: { maxRequests: 4 }, shuffleWindow: 300 } }));
  return ['train', '--data', join(dir, 'data.jsonl'), '--schema', join(dir, 'schema.json'), '--config', join(dir, 'config.json'), '--threads', '2'];
}

function weights(out: string): Buffer[] {
  const step = join(out, readFileSync(join(out, 'latest'), 'utf8').trim());
  return ['model.safetensors', 'optimizer.safetensors'].map((name) => readFileSync(join(step, name)));
}

await t.test('Ctrl-C saves and leaves, kill -9 loses nothing saved: resumed, the same bits', async (t) => {
  const dir = t.testdir();
  const command = project(dir);
  const whole = longer(...command, '--out', join(dir, 'whole'), '--tensorboard', join(dir, 'tb'));
  t.equal(whole.status, 0, whole.stderr);
  t.ok(readFileSync(join(dir, 'tb', readdirSync(join(dir, 'tb'))[0]!)).includes('loss'), 'TensorBoard has the loss');

  const out = join(dir, 'cut');
  const lines = (): number => (existsSync(join(out, 'metrics.jsonl')) ? readFileSync(join(out, 'metrics.jsonl'), 'utf8').split('\n').length : 0);
  for (const [round, signal] of (['SIGINT', 'SIGKILL', 'SIGTERM', 'SIGKILL'] as const).entries()) {
    const child = spawn(process.execPath, args(...command, '--out', out, '--save-every', '7', ...(round > 0 ? ['--resume'] : [])), { cwd: root, env, stdio: ['ignore', 'ignore', 'pipe'] });
    let errors = '';
    child.stderr.on('data', (data: Buffer) => { errors += String(data); });
    const closed = once(child, 'close') as Promise<[number | null]>;
    const from = lines();
    while (lines() < from + 30 && child.exitCode === null) await sleep(2);
    await sleep(Math.random() * 30);
    child.kill(signal);
    const [code] = await closed;
    t.equal(code, signal === 'SIGKILL' ? null : 1, `${signal}: ${errors}`);
    if (signal !== 'SIGKILL') t.match(errors, /interrupted: saved .*step-[\d.]+; go on with --resume/);
  }
  const rest = longer(...command, '--out', out, '--resume');
  t.equal(rest.status, 0, rest.stderr);
  t.ok(weights(out).every((w, i) => w.equals(weights(join(dir, 'whole'))[i]!)), 'parameters and optimizer state are those of an uninterrupted run');

  const flat = flatRequests(50, 3);
  writeFileSync(join(dir, 'ask.jsonl'), flat.map((f, i) => (i === 20 ? '{broken\n' : `${JSON.stringify(asRequest(f))}\n`)).join(''));
  const ask = ['score', '--model', out, '--requests', join(dir, 'ask.jsonl'), '--out', join(dir, 'scores.jsonl'), '--batch', '7'];
  const refused = longer(...ask);
  t.equal(refused.status, 1);
  t.match(refused.stderr, /ask\.jsonl:21: not valid JSON/);
  t.equal(longer(...ask, '--skip-bad').status, 0);
  const scores = readFileSync(join(dir, 'scores.jsonl'), 'utf8').trimEnd().split('\n').map((l) => JSON.parse(l) as { id: string | null; error?: string; click: { logits: number[]; probabilities: number[] } });
  t.equal(scores.length, 50, 'a line in, a line out');
  scores.forEach((s, i) => {
    if (i === 20) t.match(s, { id: null, error: /not valid JSON/ });
    else {
      t.equal(s.id, `r${i}`);
      t.equal(s.click.logits.length, (flat[i]!['candidates.item'] as number[]).length);
      t.ok(s.click.probabilities.every((p, c) => Math.abs(p - 1 / (1 + Math.exp(-s.click.logits[c]!))) < 1e-9));
    }
  });
});

await t.test('evaluate and score compute in the precision of training', async (t) => {
  const dir = t.testdir();
  const requests = flatRequests(60, 5);
  writeJsonl(join(dir, 'data.jsonl'), requests);
  writeFileSync(join(dir, 'schema.json'), JSON.stringify(richSchema));
  writeFileSync(join(dir, 'config.json'), JSON.stringify({ model: tiny, train: { precision: 'bf16', batch: { maxRequests: 4 } } }));
  const [data, out] = [join(dir, 'data.jsonl'), join(dir, 'model')];
  const trained = longer('train', '--data', data, '--schema', join(dir, 'schema.json'), '--config', join(dir, 'config.json'), '--out', out);
  t.equal(trained.status, 0, trained.stderr);
  const evaluated = JSON.parse(longer('evaluate', '--model', out, '--data', data, '--json').stdout) as { tasks: { click: { samples: number; values: { logLoss: number } } } };
  longer('score', '--model', out, '--requests', data, '--out', join(dir, 'scores.jsonl'));
  const logits = readFileSync(join(dir, 'scores.jsonl'), 'utf8').trimEnd().split('\n').flatMap((l) => (JSON.parse(l) as { click: { logits: number[] } }).click.logits);
  const labels = requests.flatMap((r) => r['labels.click'] as (number | null)[]);
  const losses = logits.flatMap((z, i) => (labels[i] === null ? [] : [Math.log1p(Math.exp(labels[i] === 1 ? -z : z))]));
  t.equal(losses.length, evaluated.tasks.click.samples);
  const loss = losses.reduce((a, b) => a + b, 0) / losses.length;
  t.ok(Math.abs(loss - evaluated.tasks.click.values.logLoss) < 1e-6, `${loss} and ${evaluated.tasks.click.values.logLoss}`);
});
