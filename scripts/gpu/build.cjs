'use strict';
// The addon and the native programs for the device: built on this host where nvcc, CMake and g++ are, else the prebuilt addon alone.
const { spawnSync } = require('node:child_process');
const { existsSync, readdirSync } = require('node:fs');
const { availableParallelism } = require('node:os');
const { dirname, join } = require('node:path');
const { output, root } = require('./host.cjs');

const tests = ['ops_test', 'wgmma_gemm_test', 'norm_test', 'sort_test', 'device_plan_test', 'device_runs_test'];
const has = (command) => output(command, ['--version']) !== undefined;

function run(command, args) {
  const r = spawnSync(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (r.status === 0) return;
  console.error(`gpu: ${command} ${args[0]} failed (${r.error?.message ?? `exit code ${r.status}`}); see above.`);
  process.exit(1);
}

/** CUDA's own code for this GPU only: a build for all of them takes four times as long. */
function architecture({ capability }) {
  const number = capability.replace('.', '');
  return `${number === '90' ? '90a' : number}-real`;
}

function emulated() {
  run(process.execPath, [join(root, 'scripts', 'build-emulated.cjs')]);
  const out = join(root, 'build', 'cmake');
  run('cmake', ['--build', out, '-j', '2', '--target', ...tests.map((t) => `${t}_plain`), 'conformance_test_plain', 'gpu_bench_emulated']);
  const at = (name) => join(out, 'test', 'simt', name);
  return {
    how: 'emulated', addon: join(out, 'emulated'),
    programs: { conformance: at('conformance_test_plain'), ...Object.fromEntries(tests.map((t) => [t, at(`${t}_plain`)])), gpu_bench: at('gpu_bench_emulated') },
  };
}

function here(device) {
  const out = join(root, 'build', 'gpu');
  const include = (name) => dirname(require.resolve(`${name}/package.json`, { paths: [root] }));
  const headers = [join(include('node-api-headers'), 'include'), include('node-addon-api')].join(';');
  run('cmake', ['-S', root, '-B', out, '-DCMAKE_BUILD_TYPE=Release', '-DLONGER_CUDA=ON', `-DCMAKE_CUDA_ARCHITECTURES=${architecture(device)}`, `-DCMAKE_JS_INC=${headers}`,
    `-DCMAKE_LIBRARY_OUTPUT_DIRECTORY=${join(out, 'addon', 'build', 'Release')}`, ...(has('ninja') && !existsSync(join(out, 'CMakeCache.txt')) ? ['-G', 'Ninja'] : [])]);
  run('cmake', ['--build', out, '-j', String(availableParallelism()), '--target', 'longer_rec', 'conformance', ...tests.map((t) => `${t}_gpu`), 'gpu_bench']);
  const at = (name) => join(out, 'test', 'simt', name);
  return {
    how: 'built here with nvcc', addon: join(out, 'addon'),
    programs: { conformance: at('conformance'), ...Object.fromEntries(tests.map((t) => [t, at(`${t}_gpu`)])), gpu_bench: at('gpu_bench') },
  };
}

/** `programs` is empty where nothing could be built: only what the addon can do is then tested and measured. */
function buildFor(device) {
  if (device.emulated) return emulated();
  const missing = ['nvcc', 'cmake', 'g++'].filter((command) => !has(command));
  if (missing.length === 0) return here(device);
  const folder = join(root, 'prebuilds', `${process.platform}-${process.arch}`);
  if (existsSync(folder) && readdirSync(folder).some((f) => f.endsWith('.node'))) return { how: `prebuild (no ${missing.join(', ')} here)`, addon: undefined, programs: {} };
  console.error(`gpu: no ${missing.join(', ')} here to build with, and no prebuild in ${folder}: 'npm run prebuild' makes it where nvcc is.`);
  process.exit(1);
}

/** The environment in which node loads that addon. */
const environmentOf = ({ addon }) => ({ ...process.env, ...(addon ? { LONGER_REC_PREBUILD: addon } : { PREBUILDS_ONLY: '1' }) });

module.exports = { buildFor, environmentOf };
