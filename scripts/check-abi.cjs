#!/usr/bin/env node
'use strict';
// Fails unless the prebuilt binaries need nothing newer than glibc 2.28 and export nothing but the Node-API entry, and
// unless the files compiled for one instruction set keep their inline functions to themselves.
const { execFileSync } = require('node:child_process');
const { existsSync, readdirSync, statSync } = require('node:fs');
const { join } = require('node:path');

const folder = join(__dirname, '..', 'prebuilds', `${process.platform}-${process.arch}`);
const allowed = /^(libc\.so\.6|libm\.so\.6|libgcc_s\.so\.1|libpthread\.so\.0|libdl\.so\.2|librt\.so\.1|ld-linux-x86-64\.so\.2)$/;
let bad = 0;
const binaries = existsSync(folder) ? readdirSync(folder).filter((f) => f.endsWith('.node')) : [];
if (binaries.length === 0) {
  console.error(`no binary in ${folder}: npm run prebuild makes it`);
  process.exit(1);
}
for (const file of binaries) {
  const path = join(folder, file);
  const symbols = execFileSync('objdump', ['-T', path], { encoding: 'utf8' });
  const versions = [...new Set([...symbols.matchAll(/GLIBC_2\.(\d+)/g)].map((m) => Number(m[1])))].sort((a, b) => a - b);
  const newest = versions.at(-1) ?? 0;
  const needed = [...execFileSync('objdump', ['-p', path], { encoding: 'utf8' }).matchAll(/NEEDED\s+(\S+)/g)].map((m) => m[1]);
  const exported = symbols.split('\n').filter((l) => / g .*\.text/.test(l)).map((l) => l.trim().split(/\s+/).at(-1));
  const problems = [];
  // The condition variables of before glibc 2.3.2 have another layout.
  if (/\(?GLIBC_2\.2\.5\)? +pthread_cond_/.test(symbols)) problems.push('binds pthread_cond_* to the version of glibc 2.2.5');
  if (newest > 28) problems.push(`needs GLIBC_2.${newest}: ${symbols.split('\n').filter((l) => l.includes(`GLIBC_2.${newest}`)).map((l) => l.trim().split(/\s+/).at(-1)).join(', ')}`);
  if (/GLIBCXX|CXXABI/.test(symbols)) problems.push('links libstdc++ dynamically');
  for (const n of needed) if (!allowed.test(n)) problems.push(`needs ${n}`);
  for (const e of exported) if (!/^(napi_register_module_v1|node_api_module_get_api_version_v1)$/.test(e)) problems.push(`exports ${e}`);
  console.log(`${file}: ${(statSync(path).size / 1e6).toFixed(2)} MB, GLIBC_2.${newest}, needs ${needed.join(' ')}${problems.length ? `\n  ${problems.join('\n  ')}` : ''}`);
  bad += problems.length;
}

// The linker keeps one copy of a weak function. Were it the one compiled for AVX-512, older CPUs would die of it.
const objects = join(__dirname, '..', 'build', 'prebuild', 'CMakeFiles', 'longer_core.dir', 'csrc', 'kernels', 'cpu');
const perIsa = existsSync(objects) ? readdirSync(objects).filter((f) => /_avx(2|512|512bf16)\.cpp\.o$/.test(f)) : [];
let shared = 0;
for (const object of perIsa) {
  const weak = execFileSync('nm', ['-C', join(objects, object)], { encoding: 'utf8' }).split('\n').filter((l) => /^[0-9a-f]+ [WVu] /.test(l));
  for (const line of weak) console.log(`${object}: shares ${line.slice(19)} with code for other CPUs (make it static or always_inline)`);
  shared += weak.length;
}
console.log(`${perIsa.length} objects for one instruction set: ${shared ? 'see above' : 'nothing shared'}`);
process.exit(bad + shared ? 1 : 0);
