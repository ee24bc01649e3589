#!/usr/bin/env node
'use strict';
// Builds and runs test/native/*_test.cpp. `--sanitize address,undefined` or `--sanitize thread` for a sanitizer build, `--only
// NAME` for one of the tests.
const { spawnSync } = require('node:child_process');
const { join } = require('node:path');

const root = join(__dirname, '..');
const at = process.argv.indexOf('--sanitize');
const sanitize = at >= 0 ? process.argv[at + 1] : '';
const only = process.argv.indexOf('--only') >= 0 ? process.argv[process.argv.indexOf('--only') + 1] : '';
const out = join(root, 'build', `native-tests${sanitize ? `-${sanitize.replace(',', '-')}` : ''}`);
function run(command, args) {
  const r = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (r.status !== 0) process.exit(r.status ?? 1);
}
run('cmake', ['-S', root, '-B', out, '-DLONGER_NATIVE_TESTS=ON', '-DLONGER_CUDA=OFF', '-DCMAKE_BUILD_TYPE=Release', `-DLONGER_SANITIZE=${sanitize}`]);
run('cmake', ['--build', out, '-j', '2', ...(only ? ['--target', only] : [])]);
run('ctest', ['--test-dir', out, '--output-on-failure', ...(only ? ['-R', `^${only}$`] : [])]);
