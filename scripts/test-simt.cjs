#!/usr/bin/env node
'use strict';
// Builds test/simt and runs its tests: `node scripts/test-simt.cjs [plain asan tsan]`, by default plain and asan. The tsan
// tier takes minutes: it runs only where it is named.
const { spawnSync } = require('node:child_process');
const { readdirSync } = require('node:fs');
const { join } = require('node:path');

const root = join(__dirname, '..');
const out = join(root, 'build', 'cmake'); // shared with the addon: the core is compiled once
const tiers = process.argv.length > 2 ? process.argv.slice(2) : ['plain', 'asan'];
for (const tier of tiers)
  if (!['plain', 'asan', 'tsan'].includes(tier)) {
    console.error(`test-simt: no tier '${tier}'; there are plain, asan and tsan`);
    process.exit(1);
  }
function run(command, args) {
  const r = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (r.status !== 0) process.exit(r.status ?? 1);
}
const tests = readdirSync(join(root, 'test', 'simt')).filter((f) => f.endsWith('_test.cpp')).map((f) => f.slice(0, -4));
const targets = tiers.flatMap((tier) => tests.map((test) => `${test}_${tier}`));
run(process.execPath, [join(__dirname, 'build-native.cjs')]);
run('cmake', ['--build', out, '-j', '2', '--target', ...targets]);
for (const target of targets) run(join(out, 'test', 'simt', target), []);
