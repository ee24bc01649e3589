import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

/**
 * Writes scalars as a TensorBoard event file, which is a row of TFRecords (length, its masked CRC-32C, an Event in protobuf,
 * its masked CRC-32C). Each run makes a file of its own in the directory; TensorBoard joins them by step.
 */
export class TensorBoardLog {
  #file: number | null;

  /** @param directory made where it is not there */
  constructor(directory: string) {
    mkdirSync(directory, { recursive: true });
    const seconds = Date.now() / 1000;
    this.#file = openSync(join(directory, `events.out.tfevents.${Math.floor(seconds)}.${hostname()}.${process.pid}`), 'a');
    this.#write(Buffer.concat([double(1, seconds), bytes(3, Buffer.from('brain.Event:2'))]));
  }

  /** One point of each curve; values that are not finite are written as they are. @param seconds time of the point, default now */
  scalars(step: number, values: Readonly<Record<string, number>>, seconds = Date.now() / 1000): void {
    const summary = Object.entries(values).map(([tag, value]) => bytes(1, Buffer.concat([bytes(1, Buffer.from(tag)), float(2, value)])));
    this.#write(Buffer.concat([double(1, seconds), varint(2 << 3), varint(step), bytes(5, Buffer.concat(summary))]));
  }

  close(): void {
    if (this.#file !== null) closeSync(this.#file);
    this.#file = null;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #write(event: Buffer): void {
    if (this.#file === null) return;
    const record = Buffer.alloc(16 + event.length);
    record.writeBigUInt64LE(BigInt(event.length), 0);
    record.writeUInt32LE(masked(crc32c(record.subarray(0, 8))), 8);
    event.copy(record, 12);
    record.writeUInt32LE(masked(crc32c(event)), 12 + event.length);
    writeSync(this.#file, record);
  }
}

function varint(value: number): Buffer {
  const out: number[] = [];
  for (let rest = BigInt(value); ; rest >>= 7n) {
    if (rest < 128n) return Buffer.from([...out, Number(rest)]);
    out.push(Number(rest & 127n) | 128);
  }
}

/** A length-delimited field. */
const bytes = (field: number, content: Buffer): Buffer => Buffer.concat([varint((field << 3) | 2), varint(content.length), content]);

function double(field: number, value: number): Buffer {
  const out = Buffer.alloc(9, (field << 3) | 1);
  out.writeDoubleLE(value, 1);
  return out;
}

function float(field: number, value: number): Buffer {
  const out = Buffer.alloc(5, (field << 3) | 5);
  out.writeFloatLE(value, 1);
  return out;
}

const table = Uint32Array.from({ length: 256 }, (_, i) => {
  let c = i;
  for (let bit = 0; bit < 8; ++bit) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
  return c >>> 0;
});

/** CRC-32C (Castagnoli). */
export function crc32c(data: Uint8Array): number {
  let c = 0xffffffff;
  for (const byte of data) c = table[(c ^ byte) & 255]! ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

/** As TFRecords store it: a CRC of data that holds CRCs is weak. */
const masked = (crc: number): number => (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
