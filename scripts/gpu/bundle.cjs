#!/usr/bin/env node
'use strict';
// `npm run gpu:bundle [-- --addon FILE] [--level N]`: build/gpu-bundle, a folder that runs by `bash run.sh` on a bare, offline GPU host: the running Node,
// production dependencies, what building needs, sources, dist, the figures as JavaScript and the prebuild. At most 60 MB.
const { execFileSync, spawnSync } = require('node:child_process');
const { cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } = require('node:fs');
const { basename, join, relative } = require('node:path');
const { output, root } = require('./host.cjs');

const most = 60e6;
const option = (name) => (process.argv.includes(name) ? process.argv[process.argv.indexOf(name) + 1] : undefined);
const out = join(root, 'build', 'gpu-bundle');
const inside = join(root, 'build', 'gpu-bundle-files');

function fail(why) {
  console.error(`gpu:bundle: ${why}`);
  process.exit(1);
}
function run(command, args, options = {}) {
  const r = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options });
  if (r.status !== 0) fail(`${command} ${args[0]} failed (${r.error?.message ?? `exit code ${r.status}`})`);
}

/** The addon that stands where the host cannot build: the prebuild, which has CUDA where nvcc was. */
function addon() {
  const named = option('--addon');
  if (named) return named;
  const folder = join(root, 'prebuilds', `${process.platform}-${process.arch}`);
  const found = existsSync(folder) ? readdirSync(folder).filter((f) => f.endsWith('.node')) : [];
  return found.length > 0 ? join(folder, found[0]) : fail(`no prebuild in ${folder}; 'npm run prebuild' makes it, --addon FILE names another`);
}

/** Folders of packages that the library loads, and of those that its build includes. */
function packages() {
  const listed = execFileSync('npm', ['ls', '--omit=dev', '--all', '--parseable'], { cwd: root, encoding: 'utf8' }).trim().split('\n').slice(1);
  return [...new Set([...listed, join(root, 'node_modules', 'node-addon-api'), join(root, 'node_modules', 'node-api-headers')])];
}

const binary = addon();
for (const folder of [out, inside]) rmSync(folder, { recursive: true, force: true });
mkdirSync(join(inside, 'bin'), { recursive: true });
run(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.build.json']);
run(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'bench/gpu/tsconfig.json', '--outDir', join(inside, 'bench-js')]);
const copy = (path) => cpSync(join(root, path), join(inside, path), { recursive: true });
for (const path of ['package.json', 'CMakeLists.txt', 'LICENSE', 'csrc', 'dist', 'scripts/gpu', 'test/simt', 'test/gpu', 'bench/native/gpu']) copy(path);
for (const peer of ['torch_kernels.py', 'torch_longer.py']) copy(join('bench', 'peers', peer));
for (const folder of packages()) cpSync(folder, join(inside, relative(root, folder)), { recursive: true, filter: (f) => !/\.(map|md|markdown|d\.[cm]?ts)$/.test(f) });
mkdirSync(join(inside, 'prebuilds', `${process.platform}-${process.arch}`), { recursive: true });
cpSync(binary, join(inside, 'prebuilds', `${process.platform}-${process.arch}`, 'longer-rec.glibc.node'));
cpSync(process.execPath, join(inside, 'bin', 'node'));
spawnSync('strip', [join(inside, 'bin', 'node')]); // what is left out are names for debuggers
writeFileSync(join(inside, 'COMMIT'), output('git', ['describe', '--always', '--dirty']) ?? 'unknown');

mkdirSync(out);
cpSync(join(__dirname, 'run.sh'), join(out, 'run.sh'));
run('tar', ['-C', inside, '-c', `--use-compress-program=xz -T0 -${option('--level') ?? 6}`, '-f', join(out, 'files.tar.xz'), '.']);
rmSync(inside, { recursive: true });
const bytes = readdirSync(out).reduce((n, f) => n + statSync(join(out, f)).size, 0);
if (bytes > most) fail(`${out} has ${(bytes / 1e6).toFixed(1)} MB, more than ${most / 1e6}`);
console.log(`${out}: ${(bytes / 1e6).toFixed(1)} MB, with ${basename(process.execPath)} ${process.versions.node} and ${binary}. Copy the folder; there: bash run.sh`);
