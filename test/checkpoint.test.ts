import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, readFile, readdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';
import { listCheckpoints, loadCheckpoint, saveCheckpoint, type CheckpointTensor } from '../lib/model/checkpoint.ts';
import { readSafetensors, writeSafetensors, type Tensor } from '../lib/model/safetensors.ts';

const input = (step: number) => ({
  step, config: { kind: 'longer', width: 32 }, schema: { user: {} }, progress: { seed: 7, position: { epoch: 1, row: step } },
  tensors: new Map<string, CheckpointTensor>([
    ['w', { data: Float32Array.from({ length: 6 }, (_, i) => step + i / 7), shape: [2, 3] }],
    ['table', { data: new Float32Array(50_000).fill(step), shape: [50_000] }],
  ]),
  optimizer: new Map<string, CheckpointTensor>([
    ['rows', { data: Int32Array.of(step, -1), shape: [2] }],
    ['scalar', { data: Float32Array.of(Math.PI), shape: [] }],
  ]),
});

await t.test('safetensors: any tensors come back bit for bit', async (t) => {
  const path = join(t.testdir(), 'x.safetensors');
  const data = fc.oneof(
    fc.float32Array(), fc.int32Array(), fc.float64Array(),
  ) as fc.Arbitrary<Tensor['data']>;
  await fc.assert(fc.asyncProperty(fc.uniqueArray(fc.tuple(fc.string({ minLength: 1 }), data), { selector: ([n]) => n, maxLength: 5 }), async (list) => {
    const tensors = new Map(list.filter(([n]) => n !== '__metadata__').map(([n, d]) => [n, { data: d, shape: [d.length, 1] }]));
    const written = await writeSafetensors(path, tensors, { by: 'test' });
    const read = await readSafetensors(path);
    if (written.sha256 !== read.sha256 || read.metadata['by'] !== 'test' || read.tensors.size !== tensors.size) return false;
    const bytes = (x: Tensor) => Buffer.from(x.data.buffer, x.data.byteOffset, x.data.byteLength);
    return [...tensors].every(([n, x]) => bytes(x).equals(bytes(read.tensors.get(n)!)) && read.tensors.get(n)!.data.constructor === x.data.constructor);
  }), { numRuns: 40 });
  t.equal((await readFile(path)).readBigUInt64LE(0) % 8n, 0n, 'data is aligned');
});

await t.test('save, load, latest, keep', async (t) => {
  const dir = t.testdir();
  for (const step of [1, 2, 3]) await saveCheckpoint(dir, input(step), { keep: 2 });
  t.strictSame(await listCheckpoints(dir), ['step-00000002', 'step-00000003']);
  const last = await loadCheckpoint(dir);
  t.strictSame({ step: last.step, progress: last.progress, config: last.config }, { step: 3, progress: input(3).progress, config: input(3).config });
  t.strictSame(last.tensors.get('w'), input(3).tensors.get('w'));
  t.strictSame(last.optimizer!.get('scalar'), input(3).optimizer.get('scalar'));
  t.equal((await loadCheckpoint(join(dir, 'step-00000002'), { optimizer: false })).optimizer, null);
  await saveCheckpoint(dir, { ...input(3), progress: { again: true } });
  t.strictSame((await loadCheckpoint(dir)).progress, { again: true }, 'a step saved again replaces its older self');
  t.equal((await readdir(dir)).filter((n) => n.startsWith('.')).length, 0, 'nothing left over');
});

await t.test('damaged, truncated and foreign files are named', async (t) => {
  const dir = t.testdir();
  const good = await saveCheckpoint(join(dir, 'good'), input(5));
  const damages: [string, (file: string) => Promise<void>][] = [
    ['model.safetensors', (f) => truncate(f, 1000)],
    ['model.safetensors', (f) => truncate(f, 4)],
    ['optimizer.safetensors', (f) => writeFile(f, 'PK not ours at all')],
    ['model.safetensors', async (f) => { const b = await readFile(f); b[b.length - 1]! ^= 1; await writeFile(f, b); }],
    ['manifest.json', async (f) => writeFile(f, (await readFile(f, 'utf8')).replace('"width": 32', '"width": 33'))],
    ['manifest.json', (f) => writeFile(f, '{}')],
    ['manifest.json', (f) => writeFile(f, '')],
  ];
  for (const [i, [name, damage]] of damages.entries()) {
    const copy = join(dir, `copy-${i}`);
    await cp(good, copy, { recursive: true });
    await damage(join(copy, name));
    await t.rejects(loadCheckpoint(copy), { code: 'ERR_CHECKPOINT', place: join(copy, name), remedy: String }, `${i} ${name}`);
  }
  await t.rejects(loadCheckpoint(join(dir, 'nowhere')), { code: 'ERR_CHECKPOINT' });
  const bytes = await readFile(join(good, 'model.safetensors'));
  const fuzzed = join(dir, 'fuzzed.safetensors');
  await fc.assert(fc.asyncProperty(fc.nat(300), fc.integer({ min: 1, max: 255 }), fc.nat(bytes.length), async (at, flip, cut) => {
    const copy = Buffer.from(bytes.subarray(0, cut % 3 === 0 ? cut : bytes.length));
    if (at < copy.length) copy[at]! ^= flip;
    await writeFile(fuzzed, copy);
    const result = await readSafetensors(fuzzed).catch((e: unknown) => e);
    return !(result instanceof Error) || (result as { code?: string }).code === 'ERR_CHECKPOINT';
  }), { numRuns: 100 });
});

await t.test('kill -9 at any moment leaves a loadable checkpoint', async (t) => {
  const dir = t.testdir();
  const module = new URL('../lib/model/checkpoint.ts', import.meta.url).href;
  const program = `import { saveCheckpoint } from ${JSON.stringify(module)};
    const first = Number(process.argv[1]);
    for (let step = first; ; step++) {
      await saveCheckpoint(${JSON.stringify(dir)}, { step, config: {}, schema: {}, progress: { step },
        tensors: new Map([['t', { data: new Float32Array(300000).fill(step), shape: [300000] }]]) }, { keep: 2 });
      console.log(step);
    }`;
  let reported = 0;
  for (let round = 0; round < 6; round++) {
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program, String(reported + 1)], { stdio: ['ignore', 'pipe', 'inherit'] });
    const closed = once(child, 'close');
    let text = '';
    child.stdout.on('data', (data: Buffer) => { text += String(data); });
    await once(child.stdout, 'data');
    await sleep(Math.random() * 60);
    child.kill('SIGKILL');
    await closed;
    const before = reported;
    for (const line of text.split('\n').slice(0, -1)) reported = Number(line);
    t.ok(reported > before);
    const { step, progress, tensors } = await loadCheckpoint(dir);
    t.ok(step >= reported, `step ${step} after ${reported} was reported`);
    t.equal(progress['step'], step);
    t.ok(tensors.get('t')!.data.every((x) => x === step));
    reported = step;
  }
  await saveCheckpoint(dir, input(reported + 1), { keep: 1 });
  const [latest, step, ...more] = (await readdir(dir)).sort();
  t.strictSame([latest, more], ['latest', []], 'leftovers of killed processes are cleared');
  t.match(step, new RegExp(`^step-${String(reported + 1).padStart(8, '0')}(\\.1)?$`), 'a step that was in place but not yet named by latest is replaced');
});

await t.test('killed between the rename and latest: the checkpoint before loads, and saving again replaces the unnamed one', async (t) => {
  const dir = t.testdir();
  await saveCheckpoint(dir, input(1));
  await saveCheckpoint(dir, input(2));
  await writeFile(join(dir, 'latest'), 'step-00000001\n');
  t.equal((await loadCheckpoint(dir)).step, 1);
  await saveCheckpoint(dir, input(2));
  t.strictSame((await readdir(dir)).sort(), ['latest', 'step-00000001', 'step-00000002.1']);
  t.equal((await loadCheckpoint(dir)).step, 2);
});
