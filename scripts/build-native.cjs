#!/usr/bin/env node
'use strict';
// Builds build/Release/longer_rec.node with cmake-js: `node scripts/build-native.cjs [--CDLONGER_CUDA=ON ...]`.
const { spawnSync } = require('node:child_process');
const { copyFileSync, mkdirSync, renameSync } = require('node:fs');
const { join } = require('node:path');

const root = join(__dirname, '..');
// prebuildify calls this in node-gyp's place and passes node-gyp's arguments; its options come by LONGER_CMAKE (a JSON
// array). It has a build folder of its own: CMake remembers options, and a release's must not leak into local builds.
const forPrebuild = Boolean(process.env.PREBUILD_PLATFORM);
const out = join(root, 'build', forPrebuild ? 'prebuild' : 'cmake');
const args = forPrebuild ? JSON.parse(process.env.LONGER_CMAKE ?? '[]') : process.argv.slice(2);

let cli;
try {
  cli = require.resolve('cmake-js/bin/cmake-js', { paths: [root] });
} catch {
  console.error('longer-rec: building from source needs cmake-js and node-addon-api (npm i cmake-js node-addon-api), CMake 3.24+ and a C++17 compiler.');
  process.exit(1);
}
const built = spawnSync(process.execPath, [cli, 'compile', '-d', root, '-O', out, '--config', 'Release', ...args], { stdio: 'inherit' });
if (built.status !== 0) {
  console.error('longer-rec: the native build failed. It needs CMake 3.24+ and a C++17 compiler (Debian: apt-get install cmake g++ make).');
  process.exit(built.status ?? 1);
}
mkdirSync(join(root, 'build', 'Release'), { recursive: true });
const target = join(root, 'build', 'Release', 'longer_rec.node');
copyFileSync(join(out, 'Release', 'longer_rec.node'), `${target}.new`);
renameSync(`${target}.new`, target); // a process that has the old file loaded keeps it

// A function that is declared but defined nowhere shows only when the addon is loaded.
if (spawnSync(process.execPath, ['-e', 'require(process.argv[1])', target], { stdio: ['ignore', 'ignore', 'inherit'] }).status !== 0) {
  console.error(`longer-rec: ${target} was built but does not load (see above).`);
  process.exit(1);
}
