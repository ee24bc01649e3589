// npm run gpu:test and gpu:bench: without a GPU they say so; on the emulated one their whole chain runs.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import './emulated_gpu.ts';

t.setTimeout(900_000); // the native programs are built here
const scripts = join(import.meta.dirname, '..', 'scripts', 'gpu');
const run = (script: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
  spawnSync(process.execPath, [join(scripts, script), ...args], { encoding: 'utf8', env: { ...process.env, ...env } });

await t.test('without a GPU: one sentence, exit code 2, nothing written', async (t) => {
  for (const [script, name] of [['test.cjs', 'gpu:test'], ['bench.cjs', 'gpu:bench'], ['main.cjs', 'gpu']] as const) {
    const dir = t.testdir({});
    const { status, stdout, stderr } = run(script, [], { PATH: dir, LONGER_GPU_RESULTS: dir });
    t.equal(status, 2, name);
    t.equal(stdout, '');
    t.match(stderr, new RegExp(`^${name}: no GPU here \\(nvidia-smi lists none\\); nothing was run\\. --emulated runs .*\\n$`));
    t.same(readdirSync(dir), []);
  }
});

await t.test('on the emulated device: tests, then figures, in one file; what was measured survives the end of the time', async (t) => {
  const LONGER_GPU_RESULTS = t.testdir({});
  const read = (): { tests: { name: string; result: string; text: string }[]; figures: { name: string; value?: number; missing?: string; failed?: string }[]; device: string } => {
    const [name, ...others] = readdirSync(LONGER_GPU_RESULTS);
    t.same(others, []);
    t.match(name, /^emulated-\d{4}-\d\d-\d\d\.json$/);
    return JSON.parse(readFileSync(join(LONGER_GPU_RESULTS, name!), 'utf8')) as ReturnType<typeof read>;
  };
  const passed = ({ status, stdout, stderr }: ReturnType<typeof run>): void => { t.equal(status, 0, status === 0 ? 'exit code' : stdout.slice(-2000) + stderr.slice(-2000)); };
  const tested = run('test.cjs', ['--emulated'], { LONGER_GPU_RESULTS });
  passed(tested);
  t.match(tested.stdout, /8 passed, 0 failed, 3 not run on emulated/);
  const { tests } = read();
  t.equal(tests.filter((r) => r.result === 'passed').length, 8);
  for (const { text } of tests) t.ok(text, 'each says what it found, or why it did not run');

  const cut = run('bench.cjs', ['--emulated', '--seconds', '6'], { LONGER_GPU_RESULTS });
  passed(cut);
  const partial = read();
  t.same(partial.tests, tests);
  t.ok(partial.figures.some((f) => f.value !== undefined) && partial.figures.some((f) => f.missing === 'not run'), 'some there, some not run');
  t.equal(partial.figures[0]!.name, 'copy within the device [4 KiB, bf16]', 'the roof first');

  const whole = run('bench.cjs', ['--emulated'], { LONGER_GPU_RESULTS });
  passed(whole);
  t.match(whole.stdout, /PyTorch has no emulated device; figures stand beside their roofs alone/);
  const names = read().figures.filter((f) => f.value !== undefined).map((f) => f.name).join('\n');
  for (const row of ['attention forward', 'attention backward', 'causal attention of length 4096', 'linear, bias and GELU', 'linear by mma.sync', 'InnerTransformer', 'embedding backward', 'training step, samples [P',
    'training step, samples [X', 'scoring call', 'scoring, candidates', 'bf16 to fp32', 'fp16 to bf16', 'tf32 to fp32', 'recompute selective, arena', 'recompute selective, time'])
    t.ok(names.includes(row), row);
  t.notOk(read().figures.some((f) => f.failed !== undefined || f.missing !== undefined));
});
