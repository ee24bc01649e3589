import { readFile } from 'node:fs/promises';
import { InvalidArgumentError, Option } from 'commander';
import { LongerError } from '../errors.ts';
import type { Precision } from '../graph/passes/precision.ts';
import type { DeviceName } from '../native/device.ts';
import { schemaFromJSON, type Schema } from '../schema/schema.ts';

/** @throws LongerError ERR_SCHEMA naming the file */
export async function readSchema(path: string): Promise<Schema> {
  let json: unknown;
  try {
    json = JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new LongerError('ERR_SCHEMA', `the schema cannot be read: ${(cause as Error).message}`, { place: path, remedy: "'longer prepare' writes one beside the data", cause });
  }
  return schemaFromJSON(json as Parameters<typeof schemaFromJSON>[0]);
}

export function wholeNumber(text: string): number {
  const n = Number(text);
  if (!Number.isSafeInteger(n) || n < 0) throw new InvalidArgumentError('expected a whole number');
  return n;
}

export function positiveNumber(text: string): number {
  const n = Number(text);
  if (!(Number.isFinite(n) && n > 0)) throw new InvalidArgumentError('expected a positive number');
  return n;
}

/** Where a command runs. */
export interface Machine {
  readonly threads?: number;
  readonly device?: DeviceName;
}

/** Its part of a command's options. */
export const machineOf = ({ threads, device }: Machine): Machine => ({ ...(threads === undefined ? {} : { threads }), ...(device === undefined ? {} : { device }) });

export const threadsOption = (): Option => new Option('--threads <n>', 'threads (default: all CPUs)').argParser(wholeNumber);
export const deviceOption = (): Option => new Option('--device <name>', 'cpu, cuda, cuda:<index>, or auto: a GPU where one can be used (default: cpu)');

/** How a saved model computes. */
export interface Computed {
  readonly precision?: Extract<Precision, string>;
}
export const precisionOf = ({ precision }: Computed): Computed => (precision === undefined ? {} : { precision });
export const precisionOption = (): Option =>
  new Option('--precision <mode>', 'fp32 or bf16, on a GPU also tf32 or fp16 (default: as the model was trained)').choices(['fp32', 'tf32', 'bf16', 'fp16']);

export function print(json: boolean | undefined, value: object, text: () => string): void {
  process.stdout.write(`${json ? JSON.stringify(value, null, 2) : text()}\n`);
}

/** Columns aligned: the first one left and the others right, unless `align` says otherwise. */
export function table(rows: readonly (readonly string[])[], align: readonly ('left' | 'right')[] = ['left']): string {
  const widths = rows[0]!.map((_, c) => Math.max(...rows.map((r) => r[c]?.length ?? 0)));
  const cell = (text: string, c: number): string => (align[c] === 'left' ? text.padEnd(widths[c]!) : text.padStart(widths[c]!));
  return rows.map((r) => r.map(cell).join('  ').trimEnd()).join('\n');
}
