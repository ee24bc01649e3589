// Writes the published JSON Schemas beside the compiled code, from what the commands check.
import { writeFileSync } from 'node:fs';
import { configSchema, datasetSchema } from '../dist/cli/settings.js';

const out = new URL('../dist/', import.meta.url);
for (const [name, schema] of [['longer-config.schema.json', configSchema()], ['longer-requests.schema.json', datasetSchema()]])
  writeFileSync(new URL(name, out), `${JSON.stringify(schema, null, 1)}\n`);
