#!/usr/bin/env node
'use strict';
// `npm run gpu:test [-- --emulated] [--seconds N]`: is what runs on this GPU right? Exit code 0: what ran passed; 1: something failed, or nothing ran; 2: no GPU here.
const { spawnSync } = require('node:child_process');
const { join } = require('node:path');
const { buildFor, environmentOf } = require('./build.cjs');
const { findDevice, output, root } = require('./host.cjs');
const { Report } = require('./report.cjs');

const at = process.argv.indexOf('--seconds');
const until = performance.now() + 1000 * (at > 0 ? Number(process.argv[at + 1]) : 300);
const device = findDevice('gpu:test');
const built = buildFor(device);
const report = new Report(device, built.how);
const env = environmentOf(built);
const counts = { passed: 0, FAILED: 0, 'not run': 0 }; // of this run: the report may hold those of an earlier one

function told(name, result, text) {
  console.log(`${result.padEnd(7)} ${name}${text ? `: ${text}` : ''}`);
  counts[result]++;
  report.add('tests', { name, result, text });
}

/** Runs one program; its last line is what the table says of it. */
function test(name, command, args) {
  const left = until - performance.now();
  if (left <= 0) return told(name, 'not run', 'the time was up');
  if (!command) return told(name, 'not run', 'its program is built only where nvcc, CMake and g++ are');
  const from = performance.now();
  const r = spawnSync(command, args, { cwd: root, env, encoding: 'utf8', timeout: Math.ceil(left), maxBuffer: 1 << 26 });
  const lines = (r.stdout + r.stderr).trim().split('\n');
  const seconds = `${((performance.now() - from) / 1000).toFixed(1)} s`;
  if (r.error?.code === 'ETIMEDOUT' && !lines.some((line) => /^(FAIL|NOT OK)/.test(line))) return told(name, 'not run', `the time was up after ${seconds}`);
  if (r.status === 0) return told(name, 'passed', `${lines.at(-1)}, ${seconds}`);
  return told(name, 'FAILED', `exit code ${r.status ?? r.signal}, ${seconds}\n  ${lines.slice(-30).join('\n  ')}`);
}

const { programs } = built;
const cli = join(root, 'dist', 'cli', 'main.js');
const record = report.path.replace(/\.json$/, '-conformance.json');
test('wrappers, against the emulator', programs.conformance, device.emulated ? [] : [record, report.content.commit]);
test('operations', programs.ops_test, []);
test('products by wgmma', programs.wgmma_gemm_test, []);
test('norms', programs.norm_test, []);
test('sort', programs.sort_test, []);
test('training steps and scorer, compiled plans', programs.device_plan_test, []);
test('runs as graphs, inputs sent ahead', programs.device_runs_test, []);
const model = (preset) => test(`model ${preset}: bf16 at most 2x (gradients 3x) the error of bf16 on the CPU, fp16 and tf32 at most that error`, process.execPath, [join(__dirname, 'models.mjs'), device.device, preset]);
for (const preset of device.emulated ? ['P'] : ['S', 'P']) model(preset);
if (device.emulated) told('proofs of a model', 'not run', 'the whole preset takes the emulated device too long; test/device.test.ts has them for a small one');
else test('proofs of a model', process.execPath, [cli, 'verify', '--model', 'longer', '--requests', '3', '--device', device.device]);

const sanitizer = output('compute-sanitizer', ['--version']) !== undefined;
for (const tool of ['memcheck', 'racecheck'])
  if (device.emulated || !sanitizer) told(`compute-sanitizer ${tool}`, 'not run', device.emulated ? 'it needs a GPU' : 'compute-sanitizer is not installed');
  else test(`compute-sanitizer ${tool}`, programs.ops_test && 'compute-sanitizer', ['--tool', tool, '--error-exitcode', '1', programs.ops_test, 'all', '2']);

if (!device.emulated) model('X'); // last: its step in double on the CPU takes longest

console.log(`${counts.passed} passed, ${counts.FAILED} failed, ${counts['not run']} not run on ${device.name}; ${report.path}`);
process.exit(counts.FAILED || counts.passed === 0 ? 1 : 0);
