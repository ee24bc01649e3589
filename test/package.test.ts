import { spawnSync, type SpawnSyncReturns } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';
import { doctor } from '../lib/cli/doctor.ts';
import { LongerError } from '../lib/errors.ts';
import { loadNative } from '../lib/native/load.ts';

const root = join(import.meta.dirname, '..');

interface Manifest {
  readonly version: string;
  readonly scripts: Readonly<Record<string, string>>;
  readonly files: readonly string[];
  readonly gypfile: boolean;
  readonly exports: Readonly<Record<string, unknown>>;
}
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest;

/** Runs a TypeScript program in a fresh process, with `from` as the package's root. */
function program(from: string, source: string, env: NodeJS.ProcessEnv = {}): SpawnSyncReturns<string> {
  const url = (path: string): string => JSON.stringify(pathToFileURL(join(from, path)).href);
  const text = source.replace(/'@(\S+)'/g, (_, path: string) => url(path));
  const clean = { ...process.env };
  delete clean['NODE_OPTIONS']; // tap's own loader
  delete clean['LONGER_ISA'];
  return spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', text], { cwd: root, encoding: 'utf8', env: { ...clean, ...env } });
}

t.test('LongerError says where, what and what to do', (t) => {
  const cause = new Error('below');
  const e = new LongerError('ERR_DATA', 'label is 2', { place: 'train.parquet row 7', remedy: 'Labels are 0 or 1', cause });
  t.equal(e.message, 'train.parquet row 7: label is 2. Labels are 0 or 1');
  t.match(e, { name: 'LongerError', code: 'ERR_DATA', place: 'train.parquet row 7', remedy: 'Labels are 0 or 1' });
  t.equal(e.cause, cause);
  t.ok(e instanceof Error);
  const bare = new LongerError('ERR_SHAPE', 'rows differ');
  t.equal(bare.message, 'rows differ');
  t.equal(bare.place, undefined);
  t.notOk('cause' in bare);
  t.end();
});

t.test('what is published runs no script on install', (t) => {
  for (const name of ['preinstall', 'install', 'postinstall']) t.notOk(name in manifest.scripts, name);
  t.notOk(manifest.files.some((f) => f.includes('binding.gyp')), 'a shipped binding.gyp would make npm run node-gyp');
  t.equal(manifest.gypfile, false);
  t.match(manifest.exports, { '.': { types: './dist/index.d.ts', default: './dist/index.js' } });
  t.end();
});

t.test('the lockfile names no registry', (t) => {
  t.notMatch(readFileSync(join(root, 'package-lock.json'), 'utf8'), /"resolved": "http/);
  t.end();
});

t.test('the addon loads once and is of this version', (t) => {
  const native = loadNative();
  t.equal(loadNative(), native);
  t.equal(native.version(), manifest.version, 'else the addon is stale: npm run build:native');
  t.end();
});

t.test('doctor reports what a bug report needs', (t) => {
  const report = doctor();
  t.equal(report.package, manifest.version);
  t.equal(report.node, process.versions.node);
  const { cpu, cuda } = report.devices;
  t.ok(['generic', 'avx2', 'avx512', 'avx512bf16', 'amx'].includes(cpu.isa), cpu.isa);
  t.ok(cpu.threads >= 1);
  t.ok(cuda.usable || cuda.reason.length > 10, 'a GPU, or why there is none');
  t.notOk(cuda.usable && !cuda.built);
  t.equal(cuda.usable, cuda.devices.length > 0 && cuda.reason === '');
  t.end();
});

t.test('LONGER_ISA', (t) => {
  const source = `import { doctor } from '@lib/cli/doctor.ts'; console.log(doctor().devices.cpu.isa);`;
  const { cpu } = loadNative().devices();
  const has: Readonly<Record<string, boolean>> = { generic: true, avx2: cpu.avx2, avx512: cpu.avx512, avx512bf16: cpu.avx512bf16, amx: cpu.amx };
  for (const [isa, there] of Object.entries(has)) {
    const r = program(root, source, { LONGER_ISA: isa });
    if (there) t.equal(r.stdout.trim(), isa, r.stderr);
    else t.match(r.stderr, /this CPU does not have it/);
  }
  const wrong = program(root, source, { LONGER_ISA: 'sse9' });
  t.not(wrong.status, 0);
  t.match(wrong.stderr, /LONGER_ISA=sse9: expected generic, avx2, avx512, avx512bf16 or amx/);
  t.end();
});

t.test('two copies of the package work beside each other in one process', (t) => {
  const dir = t.testdir({ one: {}, two: {} });
  const data = Array.from({ length: 40 }, (_, r) => `${JSON.stringify({ time: 1000, history: Array.from({ length: r % 9 }, (_, i) => ({ item: (i * r) % 50, time: i })), candidates: [{ item: r % 50 }], labels: { click: [r % 2] } })}\n`).join('');
  writeFileSync(join(dir, 'data.jsonl'), data);
  for (const copy of ['one', 'two']) {
    const to = join(dir, copy);
    cpSync(join(root, 'package.json'), join(to, 'package.json'));
    cpSync(join(root, 'dist'), join(to, 'dist'), { recursive: true });
    cpSync(join(root, 'build', 'Release', 'longer_rec.node'), join(to, 'build', 'Release', 'longer_rec.node'));
    symlinkSync(join(root, 'node_modules'), join(to, 'node_modules'));
  }
  const script = join(dir, 'script.mjs');
  writeFileSync(script, `const data = new URL('./data.jsonl', import.meta.url).pathname;
    const open = async (copy) => {
      const p = await import('./' + copy + '/dist/index.js');
      const schema = p.defineSchema({ tables: { item: { size: 50, width: 8 } }, event: { item: p.id('item') }, candidate: { item: p.id('item') }, labels: { click: {} }, time: true });
      const model = new p.ModelDescription(schema, { ...p.longerDefaults, maxHistory: 16, width: 8, heads: 2, merge: 2 });
      const runtime = new p.Runtime({ threads: 2 });
      const trainer = new p.Trainer(model, p.trainDefaults, runtime);
      return { p, schema, model, runtime, trainer };
    };
    const read = async ({ p, schema }) => { const rows = []; for await (const r of new p.Dataset(data, schema)) rows.push(r); return rows; };
    const score = async ({ p, model, runtime, trainer }, rows) => { const ranker = new p.Ranker(model, trainer.state, runtime); const logits = [...await ranker.score(await ranker.prefill(rows))]; ranker.dispose(); return logits; };
    const [one, two] = [await open('one'), await open('two')];
    const [a, b] = await Promise.all([read(one), read(two)]);
    for (let i = 0; i < 3; ++i) await Promise.all([one, two].map(({ p, schema, trainer }, k) => trainer.train(p.packBatch(schema, k === 0 ? a : b, { maxHistory: 16 }))));
    const first = await score(one, a);
    one.trainer.dispose();
    one.runtime.dispose();
    const second = await score(two, b); // the other goes on
    let foreign = 'taken';
    try { new one.p.Trainer(one.model, { ...one.p.trainDefaults, ema: 2 }, two.runtime); } catch (e) { foreign = [e instanceof one.p.LongerError, e instanceof two.p.LongerError].join(); }
    console.log(JSON.stringify({ apart: one.p.Trainer !== two.p.Trainer, rows: [a.length, b.length], equal: JSON.stringify(first) === JSON.stringify(second), finite: first.every(Number.isFinite), foreign }));`);
  const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => name !== 'NODE_OPTIONS'));
  const run = spawnSync(process.execPath, [join(dir, 'script.mjs')], { encoding: 'utf8', env: clean, timeout: 120_000 });
  t.equal(run.status, 0, run.stderr);
  t.strictSame(JSON.parse(run.stdout || '{}'), { apart: true, rows: [40, 40], equal: true, finite: true, foreign: 'true,false' });
  t.end();
});

t.test('a failed load says what was looked for and what helps', (t) => {
  const dir = t.testdir({});
  const source = `import { loadNative } from '@lib/native/load.ts';
    try { loadNative(); } catch (e) { console.log(JSON.stringify({ code: e.code, message: e.message, cause: e.cause instanceof Error })); }`;
  for (const file of ['package.json', 'lib/errors.ts', 'lib/native/load.ts', 'lib/native/types.ts']) cpSync(join(root, file), join(dir, file));
  symlinkSync(join(root, 'node_modules'), join(dir, 'node_modules'));
  const missing = program(dir, source);
  t.match(JSON.parse(missing.stdout || '{}'), { code: 'ERR_NATIVE_LOAD', cause: true, message: /No native build was found/ }, missing.stderr);
  t.match(missing.stdout, new RegExp(`build/Release.*prebuilds/${process.platform}-${process.arch}`), 'where it looked');
  t.match(missing.stdout, /build-native\.cjs/, 'the command that helps');

  mkdirSync(join(dir, 'build', 'Release'), { recursive: true });
  writeFileSync(join(dir, 'build', 'Release', 'longer_rec.node'), 'not a library');
  const broken = program(dir, source);
  t.match(JSON.parse(broken.stdout || '{}'), { code: 'ERR_NATIVE_LOAD', cause: true, message: /invalid ELF header|file too short/ }, broken.stderr);
  t.end();
});
