import { open, stat } from 'node:fs/promises';
import { LongerError } from '../errors.ts';
import { type Schema, sides } from '../schema/schema.ts';
import { nearest } from '../schema/suggest.ts';

/** What a reader gives for each row of a file, in order: the request as plain values, or why there is none. */
export interface Row {
  readonly row: unknown;
  readonly place: string;
  /** Rows that one error stands for. */
  readonly count?: number;
}

/** Columns of a columnar file that a schema reads; the first set has to be there. */
function columnsOf(schema: Schema): { needed: string[]; others: string[] } {
  const needed: string[] = [];
  const others = ['id', 'user_id', 'historyStart'];
  if (schema.time) needed.push('time', 'history.time');
  for (const side of sides) {
    const prefix = { user: 'user', context: 'context', event: 'history', candidate: 'candidates' }[side];
    for (const f of [...schema.sides[side].fields, ...schema.sides[side].numeric]) (f.optional ? others : needed).push(`${prefix}.${f.name}`);
  }
  for (const { name } of schema.tasks) others.push(`labels.${name}`);
  return { needed, others };
}

/** List columns with an entry for each event and each candidate that every file of the schema has; undefined where all of a side are optional. */
export function sizeColumns(schema: Schema): { readonly events: string; readonly candidates: string } | undefined {
  const { needed } = columnsOf(schema);
  const [events, candidates] = ['history.', 'candidates.'].map((side) => needed.find((name) => name.startsWith(side)));
  return events === undefined || candidates === undefined ? undefined : { events, candidates };
}

/**
 * The names among a file's columns that the schema reads.
 * @param without a side that is not there
 * @throws LongerError ERR_DATA for one that is missing
 */
export function columnsToRead(schema: Schema, present: readonly string[], path: string, without?: string): string[] {
  const columns = columnsOf(schema);
  const wanted = (name: string): boolean => without === undefined || !name.startsWith(`${without}.`);
  const missing = columns.needed.find((name) => wanted(name) && !present.includes(name));
  if (missing !== undefined) {
    const guess = nearest(missing, present);
    throw new LongerError('ERR_DATA', `the column '${missing}' is missing${guess ? `; did you mean '${guess}'?` : ''}`, {
      place: path, remedy: `The file has ${present.slice(0, 20).join(', ')}${present.length > 20 ? ', ...' : ''}`,
    });
  }
  return [...columns.needed, ...columns.others].filter((name) => wanted(name) && present.includes(name));
}

/** `history.item` and its like become an object a side; `user_id` is the user's key. */
export function nested(names: readonly string[], value: (name: string) => unknown): Record<string, unknown> {
  const parts: Record<string, Record<string, unknown>> = { user: {}, context: {}, history: {}, candidates: {}, labels: {} };
  const request: Record<string, unknown> = { ...parts };
  for (const name of names) {
    const v = value(name);
    const dot = name.indexOf('.');
    const side = name.slice(0, dot);
    if (dot >= 0) parts[side]![name.slice(dot + 1)] = (side === 'history' || side === 'candidates') && (v === null || v === undefined) ? [] : v;
    else if (name !== 'user_id') request[name] = v;
    else if (v !== null && v !== undefined) request['userKey'] = String(v);
  }
  return request;
}

/** @throws LongerError ERR_DATA */
export async function mustExist(path: string): Promise<void> {
  try {
    const info = await stat(path);
    if (!info.isFile()) throw new Error('not a file');
    await (await open(path)).close();
  } catch (cause) {
    throw new LongerError('ERR_DATA', `the file cannot be read: ${(cause as Error).message}`, { place: path, cause });
  }
}
