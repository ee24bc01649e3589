#!/usr/bin/env node
'use strict';
// `npm run gpu [-- --emulated]`: gpu:test, then gpu:bench in what is left of ten minutes.
const { spawnSync } = require('node:child_process');
const { join } = require('node:path');
const { findDevice } = require('./host.cjs');

findDevice('gpu');
const until = performance.now() + 590_000;
const more = process.argv.slice(2);
const run = (script, seconds) => spawnSync(process.execPath, [join(__dirname, script), ...more, '--seconds', String(Math.floor(seconds))], { stdio: 'inherit' }).status ?? 1;
const tested = run('test.cjs', 240);
const measured = run('bench.cjs', (until - performance.now()) / 1000);
process.exit(tested || measured);
