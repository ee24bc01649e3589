// npm run fuzz -- --inputs 100000 --seed 1: broken requests against a service, as test/serve_fuzz.test.ts sends them.
'use strict';
const { spawnSync } = require('node:child_process');
const { parseArgs } = require('node:util');

const { values } = parseArgs({ options: { inputs: { type: 'string', default: '100000' }, seed: { type: 'string', default: '1' } } });
for (const [name, text] of Object.entries(values))
  if (!Number.isSafeInteger(Number(text)) || Number(text) < 1) throw new Error(`--${name}: expected a whole number of at least 1, got ${text}`);
const env = { ...process.env, LONGER_FUZZ: values.inputs, LONGER_FUZZ_SEED: values.seed };
const { status } = spawnSync('npx', ['tap', '--reporter=tap', '--timeout=0', 'test/serve_fuzz.test.ts'], { stdio: 'inherit', env });
process.exit(status ?? 1);
