import { readFile } from 'node:fs/promises';
import { LongerError } from '../errors.ts';
import { type ModelConfig, type PresetName, presets } from '../model/config.ts';
import { nearest } from '../schema/suggest.ts';
import { trainDefaults, type TrainOptions } from '../train/options.ts';

/** A config file: `{ "model": { "preset": "longer", ... }, "train": { ... } }`. Every key is optional. */
export interface RunConfig {
  readonly model: ModelConfig;
  readonly train: TrainOptions;
}

type Tree = { readonly [key: string]: unknown };
const isTree = (v: unknown): v is Tree => typeof v === 'object' && v !== null && !Array.isArray(v);

/** Values of `over` on top of `base`; objects whose `kind` changes are replaced whole. @throws LongerError ERR_CONFIG for an unknown key or a wrong type */
export function overlay<T>(base: T, over: unknown, place: string): T {
  if (over === undefined) return base;
  if (!isTree(base) || !isTree(over)) {
    if (typeof base !== typeof over && base !== null && typeof base !== 'string') throw new LongerError('ERR_CONFIG', `expected a ${Array.isArray(base) ? 'list' : typeof base}, got ${JSON.stringify(over)}`, { place });
    return over as T;
  }
  if ('kind' in over && over['kind'] !== base['kind']) return over as T;
  const result: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    if (!(key in base)) {
      const guess = nearest(key, Object.keys(base));
      throw new LongerError('ERR_CONFIG', `unknown key '${key}'${guess ? `; did you mean '${guess}'?` : ''}`, { place });
    }
    result[key] = overlay(base[key], value, `${place}.${key}`);
  }
  return result as T;
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
  for (const key of Object.keys(file))
    if (!['model', 'train'].includes(key)) throw new LongerError('ERR_CONFIG', `unknown key '${key}'; expected "model" and "train"`, { place: path ?? '' });
  const { preset: named, ...model } = isTree(file['model']) ? file['model'] : {};
  const base = presetNamed(preset ?? (typeof named === 'string' ? named : 'longer'));
  return { model: overlay<ModelConfig>(base, model, 'model'), train: overlay(trainDefaults, file['train'], 'train') };
}
