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
