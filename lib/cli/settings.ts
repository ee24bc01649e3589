import { presets } from '../model/config.ts';
import { modelShape } from '../model/shape.ts';
import { partial } from '../schema/shape.ts';
import { schemaShape } from '../schema/schema_shape.ts';
import { trainShape } from '../train/shape.ts';

/** What a config file and a schema.json may hold, as the JSON Schemas that are published. */

const draft = 'https://json-schema.org/draft/2020-12/schema';

/** JSON Schema of a config file. A changed `kind` keeps the settings that both kinds have; the others have to be given. */
export function configSchema(): object {
  const model = partial(modelShape.json());
  const withPreset = (model['anyOf'] as { properties: object }[]).map((m) => ({ ...m, properties: { preset: { enum: Object.keys(presets) }, ...m.properties } }));
  return {
    $schema: draft, title: 'longer-rec config file', description: 'Settings of longer train, inspect and profile: what is left out has its default.',
    type: 'object', properties: { $schema: { type: 'string' }, model: { anyOf: withPreset }, train: partial(trainShape.json()) }, additionalProperties: false,
  };
}

/** JSON Schema of a schema.json. */
export function datasetSchema(): object {
  const { properties, required, ...rest } = schemaShape.json() as { properties: object; required: string[] };
  return { $schema: draft, title: 'longer-rec request schema', ...rest, properties: { $schema: { type: 'string' }, version: { const: 1 }, ...properties }, required: ['version', ...required] };
}
