#!/usr/bin/env node
'use strict';
// Compiles every CUDA kernel for each architecture and reads what ptxas says: fails on a spill, on a warning, and on more
// registers than scripts/ptxas-registers.json allows. `--update` writes the table; files named (*.cu) are the only ones
// looked at. Needs nvcc; says so and passes where
// there is none (`--require` fails instead).
const { execFile, spawnSync } = require('node:child_process');
const { mkdirSync, readdirSync, readFileSync, writeFileSync } = require('node:fs');
const { availableParallelism } = require('node:os');
const { join } = require('node:path');

const root = join(__dirname, '..');
const table = join(__dirname, 'ptxas-registers.json');
const update = process.argv.includes('--update');
if (spawnSync('nvcc', ['--version']).error) {
  console.log('check-ptxas: no nvcc here, nothing was compiled');
  process.exit(process.argv.includes('--require') ? 1 : 0);
}
const ccache = process.env.CMAKE_CUDA_COMPILER_LAUNCHER ? [process.env.CMAKE_CUDA_COMPILER_LAUNCHER] : [];
const architectures = { sm_80: 'compute_80', sm_90a: 'compute_90a', sm_100: 'compute_100', sm_120: 'compute_120' };
const out = join(root, 'build', 'ptxas');
mkdirSync(out, { recursive: true });

const named = process.argv.slice(2).filter((f) => f.endsWith('.cu'));
const sources = named.length > 0 ? named : ['csrc/kernels/cuda', 'test/gpu'].flatMap((folder) =>
  readdirSync(join(root, folder)).filter((f) => f.endsWith('.cu')).map((f) => join(folder, f)));

function compile(source, sm) {
  const command = [...ccache, 'nvcc', '-std=c++17', '-O3', '-Icsrc', '-Itest', '-Xptxas', '-v,-warn-spills', '-Xcompiler=-Wall,-Wextra',
    '-Werror', 'cross-execution-space-call', '-gencode', `arch=${architectures[sm]},code=${sm}`];
  // The host's side, and the PTX that drivers of later GPUs compile, are made once, with the oldest.
  if (sm === 'sm_80') command.push('-gencode', 'arch=compute_80,code=compute_80');
  command.push(sm === 'sm_80' ? '-c' : '-cubin', source, '-o', join(out, `${source.replace(/\W/g, '_')}.${sm}.o`));
  return new Promise((resolve) => {
    execFile(command[0], command.slice(1), { cwd: root, maxBuffer: 1 << 26 }, (error, stdout, stderr) =>
      resolve({ source, sm, failed: Boolean(error), text: stdout + stderr }));
  });
}

// "Compiling entry function 'name' for 'sm_90a'" ... "N bytes spill stores" ... "Used N registers"
function read({ text }) {
  const kernels = [];
  let kernel;
  for (const line of text.split('\n')) {
    const entry = line.match(/Compiling entry function '(\S+)'/);
    if (entry) kernels.push((kernel = { name: entry[1], spills: 0, registers: 0 }));
    const spill = line.match(/(\d+) bytes spill stores, (\d+) bytes spill loads/);
    if (spill && kernel) kernel.spills += Number(spill[1]) + Number(spill[2]);
    const used = line.match(/Used (\d+) registers/);
    if (used && kernel) kernel.registers = Number(used[1]);
  }
  return kernels;
}

function demangle(names) {
  const result = spawnSync('c++filt', [], { input: names.join('\n'), encoding: 'utf8' });
  const plain = result.error ? names : result.stdout.trimEnd().split('\n');
  // an enumerator as a template's argument is written as a cast of its number
  return plain.map((n) => n.replace(/\(anonymous namespace\)::|longer::(cuda::)?/g, '').replace(/\([\w:]+\)(?=\d)/g, '').replace(/\(.*$/, '').replace(/^void /, ''));
}

async function main() {
  const jobs = sources.flatMap((source) => Object.keys(architectures).map((sm) => ({ source, sm })));
  const results = [];
  await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, async () => {
    for (let job = jobs.shift(); job; job = jobs.shift()) results.push(await compile(job.source, job.sm));
  }));
  const listed = JSON.parse(readFileSync(table, 'utf8'));
  const allowed = update ? {} : listed;
  const found = {};
  const wrong = [];
  for (const result of results) {
    if (result.failed) wrong.push(`${result.source} ${result.sm}:\n${result.text}`);
    for (const line of result.text.split('\n')) if (/warning|'setmaxnreg' ignored|are serialized/i.test(line)) wrong.push(`${result.source} ${result.sm}: ${line}`);
    const kernels = read(result);
    const names = demangle(kernels.map((k) => k.name));
    kernels.forEach((kernel, i) => {
      const key = `${result.source.split('/').pop()} ${names[i]}`;
      (found[key] ??= {})[result.sm] = kernel.registers;
      if (kernel.spills) wrong.push(`${key} ${result.sm}: ${kernel.spills} bytes of spills`);
      const limit = allowed[key]?.[result.sm];
      if (!update && limit === undefined) wrong.push(`${key} ${result.sm}: not in the table (${kernel.registers} registers)`);
      if (limit !== undefined && kernel.registers > limit) wrong.push(`${key} ${result.sm}: ${kernel.registers} registers, the table allows ${limit}`);
    });
  }
  const kernelCount = Object.keys(found).length;
  if (update) {
    const kept = named.length > 0 ? Object.keys(listed).filter((k) => !named.some((f) => k.startsWith(`${f.split('/').pop()} `))) : [];
    for (const k of kept) found[k] = listed[k];
    const sorted = Object.fromEntries(Object.keys(found).sort().map((k) => [k, Object.fromEntries(Object.entries(found[k]).sort())]));
    writeFileSync(table, `${JSON.stringify(sorted, null, 1).replace(/\n\s{2,}/g, ' ').replace(/ ?\n? \}/g, ' }')}\n`);
  }
  for (const line of wrong) console.error(line);
  console.log(`check-ptxas: ${kernelCount} kernels, ${sources.length} files, ${Object.keys(architectures).length} architectures, ${wrong.length} complaints`);
  process.exit(wrong.length ? 1 : 0);
}
main();
