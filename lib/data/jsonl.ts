import { createReadStream } from 'node:fs';
import { LongerError } from '../errors.ts';
import { mustExist, type Row } from './rows.ts';

/** Longest line that is read, in bytes. */
const longest = 256 * 2 ** 20;

/** One JSON request a line; empty lines are left out. Memory is that of a line. */
export async function* jsonlRows(path: string): AsyncGenerator<Row> {
  await mustExist(path);
  let number = 0;
  for await (const bytes of lines(path)) {
    const place = `${path}:${++number}`;
    const row = parse(bytes, place);
    if (row !== undefined) yield { row, place };
  }
}

function parse(bytes: Buffer, place: string): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    return new LongerError('ERR_DATA', 'not valid UTF-8', { place, remedy: 'Write the file in UTF-8', cause });
  }
  if (text.trim() === '') return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    return new LongerError('ERR_DATA', `not valid JSON: ${(cause as Error).message}`, { place, remedy: 'Each line holds one request', cause });
  }
}

async function* lines(path: string): AsyncGenerator<Buffer> {
  let pieces: Buffer[] = [];
  let held = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 18 }) as AsyncIterable<Buffer>) {
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      const rest = chunk.subarray(from, at);
      yield pieces.length === 0 ? rest : Buffer.concat([...pieces, rest]);
      pieces = [];
      held = 0;
      from = at + 1;
    }
    if (from === chunk.length) continue;
    pieces.push(chunk.subarray(from));
    held += chunk.length - from;
    if (held > longest) throw new LongerError('ERR_DATA', `a line is longer than ${longest} bytes`, { place: path, remedy: 'Each line holds one request' });
  }
  if (pieces.length > 0) yield Buffer.concat(pieces);
}
