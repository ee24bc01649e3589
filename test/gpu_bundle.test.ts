// npm run gpu:bundle: the folder it makes runs in an empty place, without this checkout, its Node or its environment.
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

t.setTimeout(600_000);
const root = join(import.meta.dirname, '..');

await t.test('unpacked where nothing is: what it finds, no GPU in one sentence, the proofs on the CPU, exit code 2', (t) => {
  // The prebuild takes minutes with CUDA's kernels; what is packed here is the addon that this checkout was built to.
  const addon = join(root, 'build', 'Release', 'longer_rec.node');
  const packed = spawnSync(process.execPath, [join(root, 'scripts', 'gpu', 'bundle.cjs'), '--addon', addon, '--level', '1'], { encoding: 'utf8' });
  t.equal(packed.status, 0, packed.status === 0 ? 'packed' : packed.stdout.slice(-2000) + packed.stderr.slice(-2000));
  const bundle = join(root, 'build', 'gpu-bundle');
  t.same(readdirSync(bundle).sort(), ['files.tar.xz', 'run.sh']);
  t.ok(statSync(join(bundle, 'files.tar.xz')).size < 60e6);

  // A driver that finds no GPU, whatever this host has.
  const dir = t.testdir({ bin: { 'nvidia-smi': '#!/bin/sh\nexit 9\n' }, there: {} });
  chmodSync(join(dir, 'bin', 'nvidia-smi'), 0o755);
  const there = join(dir, 'there');
  cpSync(bundle, there, { recursive: true });
  const { status, stdout, stderr } = spawnSync('/bin/bash', ['run.sh'], { cwd: there, encoding: 'utf8', env: { PATH: `${join(dir, 'bin')}:/usr/bin:/bin` } });
  t.equal(status, 2, stderr.slice(-2000));
  t.match(stdout, /^longer-rec {2}\d/, 'doctor');
  t.match(stderr, /^gpu: no GPU here \(nvidia-smi lists none\)/);
  t.equal(stdout.match(/^pass /gm)?.length, 10, 'ten proofs on the CPU');
  t.notMatch(stdout, /^FAIL/m);
  t.notOk(readdirSync(there).includes('results'), 'no result without a GPU');
  t.end();
});
