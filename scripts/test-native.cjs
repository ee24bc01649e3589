#!/usr/bin/env node
'use strict';
// Builds and runs test/native/*_test.cpp. `--sanitize address,undefined` or `--sanitize thread` for a sanitizer build, `--only
// NAME,...` for some of the tests. A sanitizer build runs each test once, on the widest instruction set of the CPU.
const { spawnSync } = require('node:child_process');
const { join } = require('node:path');

const root = join(__dirname, '..');
const at = process.argv.indexOf('--sanitize');
const sanitize = at >= 0 ? process.argv[at + 1] : '';
const only = process.argv.indexOf('--only') >= 0 ? process.argv[process.argv.indexOf('--only') + 1].split(',') : [];
const out = join(root, 'build', `native-tests${sanitize ? `-${sanitize.replace(',', '-')}` : ''}`);
function run(command, args) {
  const r = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (r.status !== 0) process.exit(r.status ?? 1);
}
const hasCcache = spawnSync('ccache', ['--version'], { stdio: 'ignore' }).status === 0;
run('cmake', ['-S', root, '-B', out, '-DLONGER_NATIVE_TESTS=ON', '-DLONGER_CUDA=OFF', '-DCMAKE_BUILD_TYPE=Release', `-DLONGER_SANITIZE=${sanitize}`, ...(hasCcache ? ['-DCMAKE_CXX_COMPILER_LAUNCHER=ccache'] : [])]);
run('cmake', ['--build', out, '-j', '2', ...(only.length ? ['--target', ...only] : [])]);
run('ctest', ['--test-dir', out, '--output-on-failure', '-j', '2', ...(only.length ? ['-R', `^(${only.join('|')})$`] : []), ...(sanitize ? ['-E', '_(generic|avx2|avx512)$'] : [])]);
