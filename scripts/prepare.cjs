#!/usr/bin/env node
'use strict';
// Runs on `npm install` in a clone (never for a consumer of the package): builds the addon, unless the one that is there
// is newer than its sources and loads, and dist/.
const { spawnSync } = require('node:child_process');
const { readdirSync, statSync } = require('node:fs');
const { join } = require('node:path');

const root = join(__dirname, '..');
const addon = join(root, 'build', 'Release', 'longer_rec.node');

function run(command, args) {
  const r = spawnSync(command, args, { cwd: root, stdio: 'inherit', env: process.env });
  if (r.status !== 0) process.exit(r.status ?? 1);
}

/** Time of the newest file or folder in a tree: a folder's time tells of files that went away. */
function newest(path) {
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(stat.mtimeMs, ...readdirSync(path).map((name) => newest(join(path, name))));
}

function upToDate() {
  const built = statSync(addon, { throwIfNoEntry: false });
  if (!built) return false;
  const sources = ['csrc', 'CMakeLists.txt', 'package.json', join('scripts', 'build-native.cjs')];
  if (sources.some((source) => newest(join(root, source)) > built.mtimeMs)) return false;
  return spawnSync(process.execPath, ['-e', 'require(process.argv[1])', addon], { stdio: 'ignore' }).status === 0;
}

if (!process.env.LONGER_SKIP_NATIVE && !upToDate()) run(process.execPath, [join(root, 'scripts', 'build-native.cjs')]);
run(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.build.json']);
run('chmod', ['+x', join(root, 'dist', 'cli', 'main.js')]);
run(process.execPath, [join(root, 'scripts', 'write-schemas.mjs')]);
