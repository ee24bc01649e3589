#!/usr/bin/env node
'use strict';
// Builds build/cmake/emulated: the addon with an emulated GPU, on which the CUDA kernels run without one. For tests. It is
// loaded in the other addon's place where LONGER_REC_PREBUILD names that folder.
const { spawnSync } = require('node:child_process');
const { join } = require('node:path');

const root = join(__dirname, '..');
for (const [command, args] of [
  [process.execPath, [join(__dirname, 'build-native.cjs')]],
  ['cmake', ['--build', join(root, 'build', 'cmake'), '-j', '2', '--target', 'longer_rec_emulated']],
]) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
