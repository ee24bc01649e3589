import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { commands } from '../lib/cli/commands.ts';
import { devices } from '../lib/index.ts';
import { args as commandLine, env, root } from './command.ts';
import { flatRequests, writeJsonl } from './data_files.ts';
import { richSchema, tiny } from './helpers.ts';


interface Ran { readonly code: number | null; readonly out: string; readonly err: string }

async function longer(...args: string[]): Promise<Ran> {
  const child = spawn(process.execPath, commandLine(...args), { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, err] = ['', ''];
  child.stdout.on('data', (data: Buffer) => { out += String(data); });
  child.stderr.on('data', (data: Buffer) => { err += String(data); });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, out, err };
}

const dir = t.testdir({
  'log.csv': `user,item,time,value\n${Array.from({ length: 60 }, (_, i) => `u${i % 4},i${i % 7},${i},${1 + (i % 5)}`).join('\n')}\n`,
  'config.json': JSON.stringify({ model: tiny, train: { batch: { maxRequests: 8 } } }),
  'wrong.json': JSON.stringify({ model: { mergee: 4 } }),
  'cut.json': '{"model":',
  'schema.json': JSON.stringify(richSchema),
});
const at = (name: string): string => join(dir, name);
writeJsonl(at('data.jsonl'), flatRequests(40));
writeFileSync(at('bad.jsonl'), '{broken\n');
const training = ['--data', at('data.jsonl'), '--schema', at('schema.json'), '--config', at('config.json'), '--threads', '1'];

/** A failed call: its code, and what the one line on stderr has to say. Nothing is printed on stdout. */
type Case = readonly [args: readonly string[], code: 1 | 2, message: RegExp];

async function fails(t: Test, cases: readonly Case[]): Promise<void> {
  for (const [args, code, message] of cases) {
    const ran = await longer(...args);
    t.equal(ran.code, code, `${args.join(' ')}: ${ran.err}`);
    t.match(ran.err, message, args.join(' '));
    t.notMatch(ran.err, /\n\s+at .*\.ts:\d/, `${args.join(' ')}: no stack for what a user can do wrong`);
    t.equal(ran.out, '', `${args.join(' ')}: nothing on stdout`);
  }
}

await t.test('an unknown option is a usage error of every command', async (t) => {
  for (const command of commands) {
    const name = command().name();
    const options = command().options.map((o) => o.long!);
    const long = options.find((o) => o === '--json') ?? options.find((o) => o.length > 6)!;
    const required = command().options.filter((o) => o.mandatory && o.required).flatMap((o) => [o.long!, 'x']);
    const ran = await longer(name, ...required, `${long.slice(0, -1)}`);
    t.equal(ran.code, 2, `${name}: ${ran.err}`);
    t.match(ran.err, new RegExp(`Did you mean ${long}\\?`), name);
  }
});

await t.test('what is missing or wrong is told with its place, by code 1, or 2 where it was asked for wrongly', async (t) => {
  await fails(t, [
    [['prepare', '--events', at('none.csv'), '--out', at('p0')], 2, /negatives must be sampled/],
    [['prepare', '--events', at('none.csv'), '--out', at('p0'), '--value', 'value', '--label-threshold', '4'], 1, /none\.csv: cannot be read/],
    [['prepare', '--events', at('log.csv'), '--out', at('p0'), '--value', 'vlaue', '--label-threshold', '4'], 1, /log\.csv: has no column "vlaue".*user, item, time, value/],
    [['prepare', '--events', at('log.csv'), '--out', at('p0'), '--memory-limit', 'much'], 2, /expected a size/],
    [['train', ...training, '--out', at('m0'), '--keep-best'], 2, /Name the validation requests with --valid/],
    [['train', '--data', at('none.jsonl'), ...training.slice(2), '--out', at('m0')], 1, /none\.jsonl: the file cannot be read/],
    [['train', '--data', at('data.json'), ...training.slice(2), '--out', at('m0')], 1, /did you mean '\.jsonl'/],
    [['train', '--data', at('bad.jsonl'), ...training.slice(2), '--out', at('m0')], 1, /bad\.jsonl:1: not valid JSON/],
    [['train', ...training.slice(0, 4), '--config', at('wrong.json'), '--out', at('m0')], 2, /wrong\.json: model: unknown key 'mergee'; did you mean 'merge'/],
    [['train', ...training, '--out', at('m0'), '--epochs', 'two'], 2, /expected a positive number/],
    [['evaluate', '--model', at('none'), '--data', at('data.jsonl')], 1, /none/],
    [['score', '--model', at('none'), '--requests', at('data.jsonl'), '--out', at('s')], 1, /none/],
    [['serve', '--model', at('none')], 1, /none/],
    [['inspect', '--config', at('wrong.json')], 2, /did you mean 'merge'/],
    [['inspect', '--config', at('cut.json')], 2, /cut\.json/],
    [['verify', '--model', 'longr'], 2, /did you mean 'longer'/],
    [['profile', '--config', at('wrong.json')], 2, /did you mean 'merge'/],
    [['bench', '--preset', 'Q'], 2, /S, M, P, X|S, M, P and X/],
    [['demo', '--requests', 'many'], 2, /expected a whole number/],
  ]);
});

await t.test('a GPU that cannot be used is told with the reason and the remedy, and nothing is written', { skip: devices().cuda.usable && 'there is one' }, async (t) => {
  const [data, model] = [at('data.jsonl'), at('on')];
  const made = await longer('train', ...training, '--out', model);
  t.equal(made.code, 0, made.err);
  const gpu = /the device 'cuda:0' cannot be used: .+\. .*the device 'cpu'.*\[ERR_DEVICE(_\w+)?\]/s;
  await fails(t, ([
    ['train', ...training, '--out', at('gpu')], ['evaluate', '--model', model, '--data', data], ['score', '--model', model, '--requests', data, '--out', at('gpu')], ['serve', '--model', model],
    ['verify', '--model', model], ['profile'], ['bench', '--preset', 'S'], ['demo', '--report', at('gpu')],
  ] as const).map((args) => [[...args, '--device', 'cuda'], 1, gpu]));
  await fails(t, [[['profile', '--device', 'gpu'], 2, /device: expected auto, cpu, cuda or cuda:<index>, got 'gpu'/]]);
  t.notOk(existsSync(at('gpu')));
  const auto = await longer('evaluate', '--model', model, '--data', data, '--device', 'auto');
  t.equal(auto.code, 0, auto.err);
  t.match(auto.err, /device 'auto' is the CPU: /);
});

await t.test('--json prints one JSON value on stdout and nothing else', async (t) => {
  const runs: readonly (readonly [args: readonly string[], has: readonly string[]])[] = [
    [['prepare', '--events', at('log.csv'), '--out', at('prepared'), '--value', 'value', '--label-threshold', '4', '--threads', '1', '--memory-limit', '512MB'], ['events', 'users', 'items', 'parts', 'badRows']],
    [['train', ...training, '--out', at('model')], ['steps', 'loss', 'parameters', 'badRows']],
    [['evaluate', '--model', at('model'), '--data', at('data.jsonl')], ['model', 'tasks', 'badRows']],
    [['score', '--model', at('model'), '--requests', at('data.jsonl'), '--out', at('scores.jsonl')], ['requests', 'candidates', 'badRows']],
    [['inspect', '--model', at('model')], ['kind', 'parameters', 'flopsPerRequest', 'memory']],
    [['verify', '--model', at('model'), '--data', at('data.jsonl'), '--requests', '4'], ['pass', 'proofs']],
    [['profile', '--config', at('config.json'), '--history', '20', '--requests', '2', '--threads', '1'], ['milliseconds', 'ops']],
    [['bench', '--list'], ['0', '1']],
    [['doctor'], ['package', 'node']],
    [['demo', '--requests', '40', '--threads', '1', '--report', at('demo.html')], ['best', 'results', 'world']],
  ];
  for (const [args, has] of runs) {
    const ran = await longer(...args, '--json');
    t.equal(ran.code, 0, `${args[0]}: ${ran.err}`);
    const value = JSON.parse(ran.out) as object;
    for (const key of has) t.ok(key in value, `${args[0]}: ${key} is not among ${Object.keys(value).join(', ')}`);
  }
});
