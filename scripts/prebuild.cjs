#!/usr/bin/env node
'use strict';
// Makes prebuilds/linux-x64/longer-rec.glibc.node for publishing: pinned to an old glibc, with CUDA where nvcc is found
// (LONGER_CUDA=ON|OFF decides otherwise).
const { spawnSync } = require('node:child_process');
const { cpSync, existsSync, mkdirSync, rmSync } = require('node:fs');
const { join } = require('node:path');

const root = join(__dirname, '..');
const stubs = join(root, 'build', 'glibc-stubs');
const cuda = process.env.LONGER_CUDA ?? (spawnSync('nvcc', ['--version']).status === 0 ? 'ON' : 'OFF');

function run(command, args, env = {}) {
  const r = spawnSync(command, args, { cwd: root, stdio: 'inherit', env: { ...process.env, ...env } });
  if (r.status !== 0) process.exit(r.status ?? 1);
}

// prebuildify moves its binary out of build/Release: the local build that is there is put back at the end.
const release = join(root, 'build', 'Release', 'longer_rec.node');
const kept = join(root, 'build', 'local', 'longer_rec.node');
if (existsSync(release)) {
  mkdirSync(join(root, 'build', 'local'), { recursive: true });
  cpSync(release, kept, { preserveTimestamps: true });
  process.on('exit', () => {
    cpSync(kept, release, { preserveTimestamps: true });
    rmSync(join(root, 'build', 'local'), { recursive: true, force: true });
  });
}
rmSync(join(root, 'prebuilds', `${process.platform}-${process.arch}`), { recursive: true, force: true });
run('bash', [join(root, 'scripts', 'make-glibc-stubs.sh'), stubs]);
run(process.execPath, [join(root, 'node_modules', 'prebuildify', 'bin.js'), '--napi', '--strip', '--tag-libc'], {
  PREBUILD_NODE_GYP: join(root, 'scripts', 'build-native.cjs'),
  LONGER_CMAKE: JSON.stringify([`--CDLONGER_CUDA=${cuda}`, `--CDLONGER_GLIBC_STUBS=${stubs}`]),
});
