#!/usr/bin/env node
'use strict';
// Builds build/cmake/emulated: the addon with an emulated GPU, on which the CUDA kernels run without one. For tests. It is
// loaded in the other addon's place where LONGER_REC_PREBUILD names that folder. Test files that run at once all ask for it, so
// one builds while the others wait: a second build would write the file that the first has just begun to load.
const { spawnSync } = require('node:child_process');
const { mkdirSync } = require('node:fs');
const { join } = require('node:path');

const root = join(__dirname, '..');
const held = 'LONGER_EMULATED_LOCK_HELD';
if (!process.env[held]) {
  mkdirSync(join(root, 'build'), { recursive: true });
  const { status, error } = spawnSync('flock', [join(root, 'build', '.emulated.lock'), process.execPath, __filename], {
    stdio: 'inherit',
    env: { ...process.env, [held]: '1' },
  });
  if (error) console.error(`longer-rec: the addon with the emulated GPU is built under flock (Debian: util-linux), which cannot be started: ${error.message}`);
  process.exit(status ?? 1);
}
for (const [command, args] of [
  [process.execPath, [join(__dirname, 'build-native.cjs')]],
  ['cmake', ['--build', join(root, 'build', 'cmake'), '-j', '2', '--target', 'longer_rec_emulated']],
]) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
