import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { schemaFromJSON, type Schema } from '../schema/schema.ts';
import { encodedRows } from './encoded_rows.ts';
import { countFlights, type Flight } from './in_flight.ts';
import type { Order, Part } from './read_elsewhere.ts';
import { sendError, sendRow, type SentRow } from './transfer.ts';

/** Parts that are sent before one was taken. */
const ahead = 4;
/** A part is sent with so many rows, or bytes. */
const most = { rows: 256, bytes: 2 ** 20 };

countFlights((workerData as { readonly flight: Flight }).flight);
parentPort!.on('message', ({ path, schema, port }: Order) => { void send(path, schemaFromJSON(schema), port); });

/** Sends a file, never more than `ahead` parts beyond what was taken, until its end or until nobody takes any more. */
async function send(path: string, schema: Schema, port: MessagePort): Promise<void> {
  let allowed = ahead;
  let closed = false;
  let wake = (): void => undefined;
  port.on('message', () => { ++allowed; wake(); });
  port.on('close', () => { closed = true; wake(); });
  try {
    for await (const rows of inParts(path, schema)) {
      while (allowed === 0 && !closed) await new Promise<void>((resolve) => { wake = resolve; });
      if (closed) return;
      --allowed;
      port.postMessage({ rows } satisfies Part, rows.flatMap((row) => ('error' in row ? [] : [row.buffer])));
    }
    port.postMessage({ end: true } satisfies Part);
  } catch (error) {
    port.postMessage({ failed: sendError(error) } satisfies Part);
  }
}

async function* inParts(path: string, schema: Schema): AsyncGenerator<SentRow[]> {
  let rows: SentRow[] = [];
  let bytes = 0;
  for await (const row of encodedRows(path, schema)) {
    const sent = sendRow(row, schema);
    rows.push(sent);
    bytes += 'error' in sent ? 0 : sent.buffer.byteLength;
    if (rows.length < most.rows && bytes < most.bytes) continue;
    yield rows;
    rows = [];
    bytes = 0;
  }
  if (rows.length > 0) yield rows;
}
