import { arrowRequest } from '../data/arrow.ts';
import { columnsToRead } from '../data/rows.ts';
import { LongerError } from '../errors.ts';
import type { Schema } from '../schema/schema.ts';
import { nearest } from '../schema/suggest.ts';
import type { RankResult } from './ranking.ts';

/** The media type of an Arrow IPC stream. */
export const arrowType = 'application/vnd.apache.arrow.stream';

const own = ['userId', 'tasks', 'topK', 'explain', 'reuse', 'id', 'historyStart'];

/**
 * The request of POST /v1/rank as an Arrow IPC stream of one row: the columns of a data file (docs/data.md) and `userId`, `tasks`, `topK`, `explain`, `reuse`.
 * @throws LongerError ERR_DATA naming the column
 */
export async function arrowBody(schema: Schema, bytes: Buffer): Promise<Record<string, unknown>> {
  let stored = false;
  const request = await arrowRequest(bytes, 'body', (names) => {
    stored = !names.some((name) => name.startsWith('history.'));
    const read = columnsToRead(schema, names, 'body', stored ? 'history' : undefined).filter((name) => !name.startsWith('labels.') && name !== 'user_id');
    const known = [...read, ...own.filter((name) => names.includes(name))];
    const stray = names.find((name) => !known.includes(name));
    if (stray === undefined) return known;
    const near = nearest(stray, known);
    throw new LongerError('ERR_DATA', 'unknown column', { place: stray.slice(0, 60), ...(near === undefined ? {} : { remedy: `Did you mean '${near}'?` }) });
  });
  const { userId, tasks, topK, explain, reuse } = request;
  for (const key of [...(stored ? ['history'] : []), 'labels']) delete request[key];
  for (const [key, value] of Object.entries({ userId, tasks, topK, explain, reuse }))
    if (value === null) delete request[key];
    else if (typeof value === 'bigint') request[key] = Number(value);
  return request;
}

/** The answer as an Arrow IPC stream: `index` i32, `logits.<task>` f32, and `model` and `cache` in the schema's metadata. */
export async function arrowReply({ model, cache, index, logits }: RankResult): Promise<Buffer> {
  const { Schema: ArrowSchema, Table, tableFromArrays, tableToIPC } = await import('apache-arrow');
  const { schema, batches } = tableFromArrays({ index, ...Object.fromEntries(Object.entries(logits).map(([task, list]) => [`logits.${task}`, list])) });
  const told = new ArrowSchema(schema.fields, new Map([['model', model], ['cache', cache]]));
  return Buffer.from(tableToIPC(new Table(told, batches), 'stream'));
}
