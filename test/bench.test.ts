import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import t from 'tap';
import { benches } from '../bench/benches.ts';
import { markdownTable, textTable } from '../bench/print.ts';
import { type BenchRecord, merged, passes } from '../bench/record.ts';

const root = join(import.meta.dirname, '..');
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => name !== 'NODE_OPTIONS')); // tap's own loader
const bench = (...args: string[]) => spawnSync(process.execPath, ['--import', 'tsx', join(root, 'bench', 'main.ts'), ...args], { cwd: root, env, encoding: 'utf8', timeout: 120_000 });

/** What `--json` writes. */
const figures = {
  type: 'object', required: ['machine', 'records'], additionalProperties: false,
  properties: {
    machine: {
      type: 'object', required: ['date', 'commit', 'cpu', 'cpus', 'isa', 'memoryGiB', 'kernel', 'node', 'package', 'glibc'],
      properties: { date: { type: 'string', pattern: '^\\d{4}-\\d\\d-\\d\\dT' }, cpus: { type: 'integer', minimum: 1 }, isa: { type: 'string' } },
    },
    records: {
      type: 'array', items: {
        type: 'object', required: ['bench', 'name', 'config', 'threads', 'precision', 'value', 'unit'], additionalProperties: false,
        properties: {
          bench: { enum: benches.map((b) => b.name) }, name: { type: 'string' }, config: { type: 'string' }, threads: { type: 'integer', minimum: 1 }, precision: { enum: ['fp32', 'bf16'] },
          value: { type: 'number' }, unit: { type: 'string' }, ratio: { type: 'number' }, note: { type: 'string' }, missing: { type: 'string' },
          against: { type: 'object', required: ['name', 'value'], properties: { name: { type: 'string' }, value: { type: 'number' } } },
          bar: { type: 'object', required: ['is', 'value'], properties: { is: { enum: ['>=', '<='] }, value: { type: 'number' } } },
        },
      },
    },
  },
};

t.test('names are told and unknown options refused', (t) => {
  t.equal(new Set(benches.map((b) => b.name)).size, benches.length);
  const list = bench('--list');
  t.equal(list.status, 0, list.stderr);
  t.strictSame(list.stdout.trimEnd().split('\n').map((line) => line.split(/ +/)[0]), benches.map((b) => b.name));
  t.not(bench('--lst').status, 0);
  t.equal(bench('--only', 'no such bench').stdout.trim().endsWith('0 of 0 bars met'), true);
  t.end();
});

t.test('a run writes figures as their schema has them, keeps others when appending, and prints them', (t) => {
  const path = join(t.testdir(), 'figures.json');
  const validate = new Ajv2020({ strict: false }).compile(figures);
  const other: BenchRecord = { bench: 'training', name: 'requests', config: 'S batch 64', threads: 2, precision: 'bf16', value: 7, unit: '/s' };
  const stale: BenchRecord = { bench: 'rss', name: 'RSS, step 500 to step 50', config: 'tiny batch 4', threads: 1, precision: 'fp32', value: 1e9, unit: 'MB' };
  writeFileSync(path, JSON.stringify({ machine: {}, records: [other, stale] }));
  const run = bench('--quick', '--only', '^rss$', '--json', path, '--append');
  t.equal(run.status, 0, run.stderr);
  const after = JSON.parse(readFileSync(path, 'utf8')) as { records: BenchRecord[] };
  t.ok(validate(after), JSON.stringify(validate.errors));
  t.strictSame(after.records[0], other, 'kept');
  t.match(after.records[1], { bench: 'rss', config: 'tiny batch 4', bar: { is: '<=', value: 1.02 } });
  t.ok(after.records.length === 2 && after.records[1]!.value < 1e4, 'the same figure is replaced');
  t.match(run.stdout, /^figure +config +threads/m);
  t.match(run.stdout, /\d of 1 bars met/);
  const markdown = bench('--markdown', path).stdout.trimEnd().split('\n');
  t.equal(markdown.length, after.records.length + 2);
  t.ok(markdown.every((line) => line.startsWith('| ') && line.split('|').length === markdown[0]!.split('|').length));
  t.end();
});

t.test('a bar is met by the ratio, or by the value where there is none', (t) => {
  const base: BenchRecord = { bench: 'rss', name: 'x', config: 'S', threads: 1, precision: 'fp32', value: 7, unit: 'MB' };
  const bar = { is: '<=', value: 5 } as const;
  t.equal(passes(base), null);
  t.equal(passes({ ...base, bar }), false);
  t.equal(passes({ ...base, ratio: 5, bar }), true);
  t.equal(passes({ ...base, bar: { is: '>=', value: 7 } }), true);
  t.equal(passes({ ...base, bar, missing: 'no peer' }), null);
  t.strictSame(merged([base, { ...base, threads: 2 }], [{ ...base, value: 8 }]).map((r) => [r.threads, r.value]), [[1, 8], [2, 7]]);
  t.match(textTable([{ ...base, bar }]), /FAIL/);
  t.match(markdownTable([{ ...base, missing: 'no peer' }]), /no peer/);
  t.end();
});
