import { stat } from 'node:fs/promises';
import { LongerError } from '../errors.ts';
import { type Checkpoint, loadCheckpoint } from '../model/checkpoint.ts';
import { type ModelConfig, presets } from '../model/config.ts';
import { type Schema, schemaFromJSON } from '../schema/schema.ts';
import { nearest } from '../schema/suggest.ts';
import { trainDefaults, type TrainOptions } from '../train/options.ts';

/** A saved model with all that it was saved with. */
export interface SavedModel {
  readonly checkpoint: Checkpoint;
  readonly schema: Schema;
  readonly config: ModelConfig;
  readonly train: TrainOptions;
}

/** Whether --model names a preset; anything else is a directory. */
export const isPreset = (name: string): boolean => Object.hasOwn(presets, name);

/** @throws LongerError ERR_CONFIG where there is no such directory, with the preset that was meant; ERR_CHECKPOINT for what cannot be loaded */
export async function loadSaved(path: string, { optimizer }: { optimizer: boolean }): Promise<SavedModel> {
  if (!(await stat(path).catch(() => null))?.isDirectory()) {
    const guess = nearest(path, Object.keys(presets));
    throw new LongerError('ERR_CONFIG', `there is no model directory and no preset '${path}'${guess ? `; did you mean '${guess}'?` : ''}`, {
      place: '--model', remedy: `Presets: ${Object.keys(presets).join(', ')}`,
    });
  }
  const checkpoint = await loadCheckpoint(path, { optimizer });
  const { model, train } = checkpoint.config as unknown as { readonly model?: ModelConfig; readonly train?: Partial<TrainOptions> };
  if (!model) throw new LongerError('ERR_CHECKPOINT', 'the manifest holds no model configuration', { place: checkpoint.directory });
  return { checkpoint, schema: schemaFromJSON(checkpoint.schema), config: model, train: { ...trainDefaults, ...train } };
}
