import { readFile } from 'node:fs/promises';
import { LongerError } from '../errors.ts';
import { type ModelConfig, type PresetName, presets } from '../model/config.ts';
import { nearest } from '../schema/suggest.ts';
import type { Shape } from '../schema/shape.ts';
import { trainDefaults, type TrainOptions } from '../train/options.ts';
import { trainShape } from '../train/shape.ts';
import { modelShape } from '../model/shape.ts';

/** A config file: `{ "model": { "preset": "longer", ... }, "train": { ... } }`. Every key is optional. */
export interface RunConfig {
  readonly model: ModelConfig;
  readonly train: TrainOptions;
}

type Tree = { readonly [key: string]: unknown };
const isTree = (v: unknown): v is Tree => typeof v === 'object' && v !== null && !Array.isArray(v);

/** Values of `over` on top of `base`. @throws LongerError ERR_CONFIG for an unknown key, a wrong type or a value out of range */
export function overlay<T>(shape: Shape<T>, base: T, over: unknown, place: string): T {
  if (over === undefined) return base;
  const merged = shape.merge(base, over);
  shape.check(merged, place, 'ERR_CONFIG');
  return merged as T;
}

export function presetNamed(name: string): ModelConfig {
  if (name in presets) return presets[name as PresetName]();
  const guess = nearest(name, Object.keys(presets));
  throw new LongerError('ERR_CONFIG', `there is no model '${name}'${guess ? `; did you mean '${guess}'?` : ''}`, { remedy: `Known: ${Object.keys(presets).join(', ')}` });
}

/** @throws LongerError ERR_CONFIG naming file and key */
export async function readRunConfig(path: string | undefined, preset: string | undefined): Promise<RunConfig> {
  let file: Tree = {};
  if (path !== undefined) {
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (cause) {
      throw new LongerError('ERR_CONFIG', 'the config file cannot be read', { place: path, cause });
    }
    try {
      const parsed: unknown = JSON.parse(text);
      if (!isTree(parsed)) throw new SyntaxError('expected an object');
      file = parsed;
    } catch (cause) {
      throw new LongerError('ERR_CONFIG', `not valid JSON: ${(cause as Error).message}`, { place: path, cause });
    }
  }
  const at = path === undefined ? '' : `${path}: `;
  for (const key of Object.keys(file)) {
    if (['model', 'train', '$schema'].includes(key)) continue;
    const guess = nearest(key, ['model', 'train']);
    throw new LongerError('ERR_CONFIG', `unknown key '${key}'; ${guess ? `did you mean '${guess}'?` : 'expected "model" and "train"'}`, { place: path ?? '' });
  }
  let { model = {} } = file;
  let named: string | undefined;
  if (isTree(model) && 'preset' in model) {
    const { preset: value, ...rest } = model;
    if (typeof value !== 'string') throw new LongerError('ERR_CONFIG', `expected the name of a model, got ${JSON.stringify(value)}`, { place: `${at}model.preset` });
    [named, model] = [value, rest];
  }
  return {
    model: overlay<ModelConfig>(modelShape, presetNamed(preset ?? named ?? 'longer'), model, `${at}model`),
    train: overlay<TrainOptions>(trainShape, trainDefaults, file['train'], `${at}train`),
  };
}
