#!/usr/bin/env node
'use strict';
// `npm run gpu:bench [-- --emulated] [--seconds N]`: the figures of this GPU beside their roofs and peers, the most important first. What was
// measured is kept when the time is up. Exit code 0: measured; 1: a figure failed; 2: no GPU here.
const { spawn } = require('node:child_process');
const { existsSync } = require('node:fs');
const { join } = require('node:path');
const { createInterface } = require('node:readline');
const { buildFor, environmentOf } = require('./build.cjs');
const { findDevice, findTorch, root } = require('./host.cjs');
const { Report } = require('./report.cjs');

const at = process.argv.indexOf('--seconds');
const seconds = at > 0 ? Number(process.argv[at + 1]) : 480;
const device = findDevice('gpu:bench');
const built = buildFor(device);
const report = new Report(device, built.how);
const torch = device.emulated && !process.env.LONGER_BENCH_PYTHON ? { why: 'PyTorch has no emulated device' } : findTorch();
if (torch.why) console.log(`PyTorch: ${torch.why}; figures stand beside their roofs alone`);

// A bundle brings the figures as JavaScript; in a clone tsx runs them as they are.
const compiled = join(root, 'bench-js', 'bench', 'gpu', 'main.js');
const main = existsSync(compiled) ? [compiled] : ['--import', 'tsx', join(root, 'bench', 'gpu', 'main.ts')];
const child = spawn(process.execPath, [...main, device.device, built.programs.gpu_bench ?? '', torch.python ?? '', torch.why ?? '', device.emulated ? 'tiny' : 'full'],
  { cwd: root, env: environmentOf(built), stdio: ['ignore', 'pipe', 'inherit'] });
const timer = setTimeout(() => { child.kill('SIGKILL'); }, 1000 * seconds);

const left = new Set();
let failed = 0;
let running;

/** 0.812 of copy, GB/s (bar >= 0.8: met) */
function verdict({ value, unit, against, ratio, bar, note }) {
  const number = (x) => (x === null || Number.isNaN(x) ? 'not run' : x >= 1000 ? Math.round(x).toLocaleString('en') : String(Number(x.toPrecision(3))));
  const figure = ratio ?? value;
  const met = bar && (bar.is === '>=' ? figure >= bar.value : figure <= bar.value);
  return [`${number(value)} ${unit}`, against && `${against.name}: ${number(against.value)}${ratio === undefined ? '' : `, ratio ${number(ratio)}`}`,
    bar && `bar ${bar.is} ${bar.value}: ${device.emulated ? 'emulated' : met ? 'met' : 'MISSED'}`, note].filter(Boolean).join('; ');
}

createInterface(child.stdout).on('line', (line) => {
  const { figures, begins, record, failed: name, why } = JSON.parse(line);
  for (const f of figures ?? []) left.add(f);
  if (begins !== undefined) {
    if (running !== undefined) left.delete(running);
    running = begins;
    report.forget('figures', begins);
  }
  if (record !== undefined) {
    console.log(`${record.name} [${record.config}]: ${verdict(record)}`);
    report.add('figures', { ...record, name: `${record.name} [${record.config}, ${record.precision}]${record.against ? ` / ${record.against.name}` : ''}` });
  }
  if (name !== undefined) {
    failed++;
    console.log(`FAILED ${name}: ${why}`);
    report.add('figures', { name, failed: why });
  }
});

child.on('close', (code) => {
  clearTimeout(timer);
  if (code === 0 && running !== undefined) left.delete(running);
  else if (child.signalCode !== 'SIGKILL') failed++;
  for (const name of left) {
    console.log(`not run ${name}: ${child.signalCode === 'SIGKILL' ? 'the time was up' : 'the program ended before'}`);
    report.add('figures', { name, missing: 'not run' });
  }
  console.log(`${report.content.figures.filter((f) => f.value !== undefined).length} figures of ${device.name}; ${report.path}`);
  process.exit(failed ? 1 : 0);
});
