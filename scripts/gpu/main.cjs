#!/usr/bin/env node
'use strict';
// `npm run gpu [-- --emulated] [--seconds N]`: gpu:test, then gpu:bench in what is left of N seconds, by default ten minutes.
const { spawnSync } = require('node:child_process');
const { join } = require('node:path');
const { findDevice } = require('./host.cjs');

findDevice('gpu');
const more = process.argv.slice(2);
const at = more.indexOf('--seconds');
const seconds = at < 0 ? 590 : Number(more.splice(at, 2)[1]);
const until = performance.now() + 1000 * seconds;
const run = (script, share) => spawnSync(process.execPath, [join(__dirname, script), ...more, '--seconds', String(Math.floor(share))], { stdio: 'inherit' }).status ?? 1;
const tested = run('test.cjs', (240 / 590) * seconds);
const measured = run('bench.cjs', (until - performance.now()) / 1000);
process.exit(tested || measured);
