import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { LongerError } from '../errors.ts';
import type { Schema } from '../schema/schema.ts';
import type { EncodedRow } from './encoded_rows.ts';
import { type Flight, land, newFlight } from './in_flight.ts';
import { receiveError, receiveRow, type SentError, type SentRow } from './transfer.ts';

/** What the thread gets for a file, and sends back on the port: parts of the file, in order, then the end or a failure. */
export interface Order {
  readonly path: string;
  /** Its JSON form. */
  readonly schema: object;
  readonly port: MessagePort;
}
export type Part = { readonly rows: readonly SentRow[] } | { readonly end: true } | { readonly failed: SentError };

interface ReadingThread {
  readonly worker: Worker;
  failure?: Error;
}

/** One for all files of the process: it starts with the first, does not keep the process alive, and has nothing in flight when the process ends. */
let thread: ReadingThread | undefined;

function start(flight: Flight): Worker {
  // Of a script given as text, which the thread's is not.
  const execArgv = process.execArgv.filter((a) => !a.startsWith('--input-type'));
  const options = { workerData: { flight }, name: 'longer reads', execArgv };
  if (!import.meta.url.endsWith('.ts')) return new Worker(new URL('./reading_thread.js', import.meta.url), options);
  // Run from its sources, by tsx, which gives threads its loader only where they ask.
  const [loader, entry] = [import.meta.resolve('tsx/esm/api'), new URL('./reading_thread.ts', import.meta.url).href];
  return new Worker(`import(${JSON.stringify(loader)}).then(({ register }) => { register(); return import(${JSON.stringify(entry)}); })`, { ...options, eval: true });
}

function readingThread(): ReadingThread {
  if (thread) return thread;
  const flight = newFlight();
  const worker = start(flight);
  const started: ReadingThread = (thread = { worker });
  const atExit = (): void => { land(flight); };
  worker.unref();
  worker.on('error', (error: Error) => { started.failure = error; });
  worker.on('exit', () => {
    process.off('exit', atExit);
    if (thread === started) thread = undefined;
  });
  process.on('exit', atExit);
  return started;
}

/**
 * Rows in file order, read and encoded by a thread of their own, a few parts ahead of whoever takes them. A caller that leaves early stops it.
 * @throws LongerError ERR_DATA as `encodedRows`
 */
export async function* rowsFromThread(path: string, schema: Schema): AsyncGenerator<EncodedRow> {
  const parts: Part[] = [];
  let closed = false;
  let wake = (): void => undefined;
  const { port1: port, port2 } = new MessageChannel();
  port.on('message', (part: Part) => { parts.push(part); wake(); });
  port.on('close', () => { closed = true; wake(); });
  const started = readingThread();
  started.worker.postMessage({ path, schema: schema.toJSON(), port: port2 }, [port2]);
  try {
    for (;;) {
      while (parts.length === 0 && !closed) await new Promise<void>((resolve) => { wake = resolve; });
      const part = parts.shift();
      if (!part) throw new LongerError('ERR_DATA', `the thread that reads ended: ${started.failure?.message ?? 'it was stopped'}`, { place: path, cause: started.failure });
      if ('end' in part) return;
      if ('failed' in part) throw receiveError(part.failed);
      port.postMessage('more');
      for (const row of part.rows) yield receiveRow(row, schema);
    }
  } finally {
    port.close();
  }
}
