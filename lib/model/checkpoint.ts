import { createHash, randomBytes } from 'node:crypto';
import { mkdir, open, readFile, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { LongerError } from '../errors.ts';
import { expectPath } from '../schema/given.ts';
import { readSafetensors, writeSafetensors, type Tensor } from './safetensors.ts';

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type JsonObject = { readonly [key: string]: Json };

/** A tensor of a model or optimizer; the product of `shape` is `data.length`. */
export interface CheckpointTensor {
  readonly data: Float32Array | Int32Array;
  readonly shape: readonly number[];
}

export interface CheckpointInput {
  /** Whole number of optimizer steps done; names the directory `step-00000123`. */
  readonly step: number;
  /** Plain JSON: numbers finite, no undefined kept. */
  readonly config: object;
  readonly schema: object;
  /** F32 and I32; F64 is refused. */
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly optimizer?: ReadonlyMap<string, Tensor>;
  /** Whatever resuming needs: seeds, data position, schedule. */
  readonly progress: JsonObject;
  /** Versions of what wrote it. `node` is added. */
  readonly versions?: Readonly<Record<string, string>>;
}

export interface Checkpoint {
  /** The step's own directory. */
  readonly directory: string;
  readonly step: number;
  readonly config: JsonObject;
  readonly schema: JsonObject;
  readonly progress: JsonObject;
  readonly versions: Readonly<Record<string, string>>;
  readonly tensors: Map<string, CheckpointTensor>;
  /** null when it was saved without, or not asked for. */
  readonly optimizer: Map<string, CheckpointTensor> | null;
}

interface Manifest {
  readonly format: 'longer-checkpoint';
  readonly formatVersion: 1;
  readonly step: number;
  readonly versions: Record<string, string>;
  readonly files: Record<string, { readonly sha256: string; readonly bytes: number }>;
  readonly config: JsonObject;
  readonly schema: JsonObject;
  readonly progress: JsonObject;
}

const modelFile = 'model.safetensors';
const optimizerFile = 'optimizer.safetensors';
const manifestFile = 'manifest.json';
const stepName = /^step-\d{8,}(\.\d+)?$/;
/** Directories of a save or a removal under way; the number is the process. */
const unfinishedName = /^\.(?:saving|removing)-(\d+)-/;

/**
 * Saves a checkpoint under `directory/step-<step>/` and names it in `directory/latest`. All of it is written and synced in
 * a sibling directory first and renamed into place, so a process killed at any moment leaves the checkpoint before
 * loadable. A step saved again replaces its older self. Arrays must not change until the promise settles; one process at a
 * time may save into a directory.
 * @param keep newest checkpoints to keep, at least 1.
 * @returns the step's directory.
 * @throws LongerError ERR_CHECKPOINT when something cannot be written.
 */
export async function saveCheckpoint(directory: string, input: CheckpointInput, { keep = 3 }: { keep?: number } = {}): Promise<string> {
  expectPath(directory, 'save', 'ERR_CHECKPOINT');
  if (!Number.isSafeInteger(input.step) || input.step < 0 || !Number.isSafeInteger(keep) || keep < 1)
    throw new LongerError('ERR_CHECKPOINT', `step ${input.step} and keep ${keep} must be whole numbers, keep at least 1`, { place: directory });
  for (const [name, { data }] of [...input.tensors, ...(input.optimizer ?? [])])
    if (data instanceof Float64Array) throw new LongerError('ERR_CHECKPOINT', `tensor ${JSON.stringify(name)} is F64; a checkpoint holds F32 and I32`, { place: directory });
  const working = join(directory, `.saving-${process.pid}-${randomBytes(6).toString('hex')}`);
  try {
    await mkdir(directory, { recursive: true });
    await removeUnfinished(directory);
    await mkdir(working);
    const files: Manifest['files'] = { [modelFile]: await writeSafetensors(join(working, modelFile), input.tensors) };
    if (input.optimizer !== undefined) files[optimizerFile] = await writeSafetensors(join(working, optimizerFile), input.optimizer);
    const manifest = {
      format: 'longer-checkpoint', formatVersion: 1, step: input.step, versions: { node: process.versions.node, ...input.versions },
      files, config: input.config, schema: input.schema, progress: input.progress,
    };
    await writeSynced(join(working, manifestFile), `${sealed(manifest)}\n`);
    await syncDirectory(working);
    const name = await freeName(directory, input.step);
    await rename(working, join(directory, name));
    await syncDirectory(directory);
    await replaceText(directory, 'latest', `${name}\n`);
    await prune(directory, name, keep);
    return join(directory, name);
  } catch (cause) {
    await rm(working, { recursive: true, force: true }).catch(() => undefined);
    if (cause instanceof LongerError) throw cause;
    throw new LongerError('ERR_CHECKPOINT', `cannot save: ${(cause as Error).message}`, {
      place: directory, remedy: 'Check free space and permissions; the checkpoint before is still in place', cause,
    });
  }
}

/**
 * Loads the checkpoint that `latest` names, or the one of a `step-…` directory, verifying every hash.
 * @throws LongerError ERR_CHECKPOINT naming the file, for anything missing, truncated, altered or not ours.
 */
export async function loadCheckpoint(path: string, { optimizer = true }: { optimizer?: boolean } = {}): Promise<Checkpoint> {
  expectPath(path, 'model', 'ERR_CHECKPOINT');
  const directory = await stepDirectory(path);
  const manifest = await readManifest(join(directory, manifestFile));
  const read = async (name: string): Promise<Map<string, CheckpointTensor>> => {
    const place = join(directory, name);
    const content = await readSafetensors(place);
    if (content.sha256 !== manifest.files[name]!.sha256) throw damaged(place, 'its SHA-256 is not the one of the manifest: the file was altered');
    const tensors = new Map<string, CheckpointTensor>();
    for (const [tensor, { data, shape }] of content.tensors) {
      if (data instanceof Float64Array) throw damaged(place, `tensor ${JSON.stringify(tensor)} is F64; a checkpoint holds F32 and I32`);
      tensors.set(tensor, { data, shape });
    }
    return tensors;
  };
  if (manifest.files[modelFile] === undefined) throw damaged(join(directory, manifestFile), `names no ${modelFile}`);
  const { step, config, schema, progress, versions } = manifest;
  return {
    directory, step, config, schema, progress, versions,
    tensors: await read(modelFile),
    optimizer: optimizer && manifest.files[optimizerFile] !== undefined ? await read(optimizerFile) : null,
  };
}

/** Names of the finished checkpoints of a directory, oldest step first; [] where there is none. */
export async function listCheckpoints(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch(() => []);
  return names.filter((n) => stepName.test(n)).sort((a, b) => stepKey(a) - stepKey(b) || repeatKey(a) - repeatKey(b));
}

const stepKey = (name: string): number => Number(name.slice(5).split('.')[0]);
const repeatKey = (name: string): number => Number(name.split('.')[1] ?? 0);

function damaged(place: string, message: string, cause?: unknown): LongerError {
  return new LongerError('ERR_CHECKPOINT', message, { place, remedy: 'Restore it from a copy, or load another step-… directory beside it', cause });
}

async function stepDirectory(path: string): Promise<string> {
  if (await stat(join(path, manifestFile)).catch(() => null)) return path;
  const pointer = join(path, 'latest');
  const name = await readFile(pointer, 'utf8').catch(async (cause: unknown) => {
    const others = await listCheckpoints(path);
    throw new LongerError('ERR_CHECKPOINT', 'no checkpoint here: neither manifest.json nor latest', {
      place: path, remedy: others.length > 0 ? `Name one of its directories: ${others.join(', ')}` : 'Give the directory that training wrote to', cause,
    });
  });
  if (!stepName.test(name.trim())) throw damaged(pointer, 'does not name a step directory');
  return join(path, name.trim());
}

/** JSON with a last member `checksum`, the SHA-256 of the compact JSON of all others. */
function sealed(manifest: object): string {
  const plain = JSON.parse(JSON.stringify(manifest)) as JsonObject;
  return JSON.stringify({ ...plain, checksum: sha256(JSON.stringify(plain)) }, null, 2);
}

async function readManifest(place: string): Promise<Manifest> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(place, 'utf8'));
  } catch (cause) {
    throw damaged(place, `cannot be read: ${(cause as Error).message}`, cause);
  }
  const { checksum, ...rest } = (parsed ?? {}) as Manifest & { checksum?: string };
  if (rest.format !== 'longer-checkpoint') throw damaged(place, 'is not the manifest of a LONGER checkpoint');
  if (rest.formatVersion !== 1)
    throw new LongerError('ERR_CHECKPOINT', `has format version ${String(rest.formatVersion)}, this library reads 1`, { place, remedy: 'Load it with the version of longer-rec that wrote it' });
  if (checksum !== sha256(JSON.stringify(rest))) throw damaged(place, 'its checksum does not match: the file was altered');
  return rest;
}

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

async function writeSynced(path: string, text: string): Promise<void> {
  const file = await open(path, 'w');
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function replaceText(directory: string, name: string, text: string): Promise<void> {
  const working = join(directory, `.saving-${process.pid}-${name}`);
  await writeSynced(working, text);
  await rename(working, join(directory, name));
  await syncDirectory(directory);
}

async function freeName(directory: string, step: number): Promise<string> {
  const name = `step-${String(step).padStart(8, '0')}`;
  const taken = (await listCheckpoints(directory)).filter((n) => stepKey(n) === step);
  return taken.length === 0 ? name : `${name}.${Math.max(...taken.map(repeatKey)) + 1}`;
}

/** Keeps `current` and the newest of the others; an older self of the same step goes. */
async function prune(directory: string, current: string, keep: number): Promise<void> {
  const others = (await listCheckpoints(directory)).filter((n) => n !== current);
  const same = others.filter((n) => stepKey(n) === stepKey(current));
  const rest = others.filter((n) => stepKey(n) !== stepKey(current));
  for (const name of [...same, ...rest.slice(0, Math.max(0, rest.length - (keep - 1)))]) await removeStep(join(directory, name));
}

/** Renamed before it is emptied, so that no half-removed directory bears a checkpoint's name. */
async function removeStep(path: string): Promise<void> {
  const leaving = join(dirname(path), `.removing-${process.pid}-${basename(path)}`);
  await rename(path, leaving);
  await rm(leaving, { recursive: true, force: true });
}

/** Clears what killed processes left. */
async function removeUnfinished(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    const owner = unfinishedName.exec(name)?.[1];
    if (owner !== undefined && !isRunning(Number(owner))) await rm(join(directory, name), { recursive: true, force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
