'use strict';
// What the GPU tools run on: the first GPU of this host or, with --emulated, the emulated one at tiny shapes, which tests these tools themselves.
const { spawnSync } = require('node:child_process');
const { join } = require('node:path');

const root = join(__dirname, '..', '..');

/** What a program prints, trimmed; undefined where it is not there or fails. */
function output(command, args, options = {}) {
  const r = spawnSync(command, args, { cwd: root, encoding: 'utf8', ...options });
  return r.error || r.status !== 0 ? undefined : r.stdout.trim();
}

/** Ends the process with one sentence and exit code 2 where there is no GPU. */
function findDevice(tool) {
  if (process.argv.includes('--emulated')) return { emulated: true, name: 'emulated', device: 'emulated', driver: 'none' };
  const first = output('nvidia-smi', ['--query-gpu=name,compute_cap,driver_version', '--format=csv,noheader'])?.split('\n')[0];
  if (!first) {
    console.error(`${tool}: no GPU here (nvidia-smi lists none); nothing was run. --emulated runs the same at tiny shapes on the CPU.`);
    process.exit(2);
  }
  const [name, capability, driver] = first.split(', ');
  return { emulated: false, name, device: 'cuda:0', capability, driver };
}

/** The Python that has PyTorch (LONGER_BENCH_PYTHON, python3, /usr/bin/python3), or why there is none. */
function findTorch() {
  for (const python of [process.env.LONGER_BENCH_PYTHON, 'python3', '/usr/bin/python3'].filter(Boolean)) {
    const version = output(python, ['-c', 'import torch; print(torch.__version__)'], { timeout: 60_000 });
    if (version) return { python, version };
  }
  return { why: 'no Python with PyTorch here (LONGER_BENCH_PYTHON names one)' };
}

module.exports = { root, output, findDevice, findTorch };
