import { createHash } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import { bufferSourceToUint8Array, concatUint8Arrays } from 'typed-array-utils';
import { LongerError } from '../errors.ts';

/** Numbers of one tensor, row-major. F32, I32 and F64 of the format; other types of the format are refused on reading. */
export type TensorData = Float32Array | Int32Array | Float64Array;

export interface Tensor {
  readonly data: TensorData;
  /** Sizes of the dimensions; their product is `data.length`, [] is one number. */
  readonly shape: readonly number[];
}

/** Where a tensor lies in a file. */
interface Entry {
  readonly dtype: 'F32' | 'I32' | 'F64';
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

const arrayOf = { F32: Float32Array, I32: Int32Array, F64: Float64Array } as const;

/** Bytes of one read or write: big tensors never pass through one large buffer. */
const pieceBytes = 16 * 2 ** 20;
/** The format's own limit on the header. */
const headerLimit = 100_000_000;

function dtypeOf(data: TensorData): Entry['dtype'] {
  return data instanceof Float32Array ? 'F32' : data instanceof Int32Array ? 'I32' : 'F64';
}

function* pieces(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

/**
 * Writes tensors as a safetensors file (8-byte little-endian header length, JSON header, data) and syncs it to disk.
 * Tensors are laid out widest type first, then in the map's order, so that each is aligned to its type. The arrays must
 * not change until the promise settles.
 * @returns the file's SHA-256 in hex and its size in bytes.
 * @throws LongerError ERR_CHECKPOINT when a shape does not fit its data or the file cannot be written.
 */
export async function writeSafetensors(
  path: string, tensors: ReadonlyMap<string, Tensor>, metadata: Readonly<Record<string, string>> = {},
): Promise<{ sha256: string; bytes: number }> {
  const ordered = [...tensors].sort(([, a], [, b]) => b.data.BYTES_PER_ELEMENT - a.data.BYTES_PER_ELEMENT);
  const header: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  if (Object.keys(metadata).length > 0) header['__metadata__'] = metadata;
  let end = 0;
  for (const [name, { data, shape }] of ordered) {
    if (name === '__metadata__' || shape.reduce((a, b) => a * b, 1) !== data.length)
      throw new LongerError('ERR_CHECKPOINT', `tensor ${JSON.stringify(name)} has ${data.length} numbers for shape [${shape.join(', ')}]`, { place: path });
    header[name] = { dtype: dtypeOf(data), shape, data_offsets: [end, end + data.byteLength] };
    end += data.byteLength;
  }
  let text = JSON.stringify(header);
  const json = new TextEncoder().encode(text);
  text = ' '.repeat((8 - (json.length % 8)) % 8);
  const length = new DataView(new ArrayBuffer(8));
  length.setBigUint64(0, BigInt(json.length + text.length), true);
  const head = concatUint8Arrays(bufferSourceToUint8Array(length), json, new TextEncoder().encode(text));
  const hash = createHash('sha256');
  try {
    const file = await open(path, 'w');
    try {
      for (const bytes of [head, ...ordered.map(([, t]) => bufferSourceToUint8Array(t.data))])
        for (const piece of pieces(bytes)) {
          hash.update(piece);
          for (let at = 0; at < piece.length;) at += (await file.write(piece, at)).bytesWritten;
        }
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw new LongerError('ERR_CHECKPOINT', `cannot be written: ${(cause as Error).message}`, { place: path, cause });
  }
  return { sha256: hash.digest('hex'), bytes: head.length + end };
}

/** What a safetensors file holds, with the SHA-256 of the bytes read. */
export interface SafetensorsContent {
  readonly tensors: Map<string, Tensor>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly sha256: string;
}

const remedy = 'Restore the file from a copy, or load an earlier checkpoint';

/**
 * Reads a whole safetensors file, each tensor into its own array, checking that the header's ranges cover the data
 * exactly once.
 * @throws LongerError ERR_CHECKPOINT for a missing, truncated or foreign file, or a type other than F32, I32, F64.
 */
export async function readSafetensors(path: string): Promise<SafetensorsContent> {
  const fail = (message: string, cause?: unknown): never => {
    throw new LongerError('ERR_CHECKPOINT', message, { place: path, remedy, cause });
  };
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (cause) {
    return fail(`cannot be opened: ${(cause as Error).message}`, cause);
  }
  try {
    const { size } = await file.stat();
    const hash = createHash('sha256');
    const fill = async (bytes: Uint8Array, position: number): Promise<void> => {
      for (let at = 0; at < bytes.length;) {
        const { bytesRead } = await file.read(bytes, at, Math.min(pieceBytes, bytes.length - at), position + at);
        if (bytesRead === 0) fail(`truncated: ${size} bytes, expected more`);
        hash.update(bytes.subarray(at, at + bytesRead));
        at += bytesRead;
      }
    };
    const prefix = new Uint8Array(8);
    if (size < 8) fail(`not a safetensors file: ${size} bytes`);
    await fill(prefix, 0);
    const headerBytes = Number(new DataView(prefix.buffer).getBigUint64(0, true));
    if (headerBytes > headerLimit || headerBytes < 2) fail('not a safetensors file: its header length is out of range');
    if (8 + headerBytes > size) fail(`truncated inside the header: ${size} bytes, expected at least ${8 + headerBytes}`);
    const json = new Uint8Array(headerBytes);
    await fill(json, 8);
    const { entries, metadata } = parseHeader(json, fail);
    const tensors = new Map<string, Tensor>();
    let expected = 0;
    for (const [name, entry] of entries) {
      const [begin, end] = entry.data_offsets;
      if (begin !== expected) fail(`tensor ${JSON.stringify(name)} starts at byte ${begin}, expected ${expected}`);
      if (8 + headerBytes + end > size) fail(`truncated: ${size} bytes, tensor ${JSON.stringify(name)} ends at ${8 + headerBytes + end}`);
      const count = entry.shape.reduce((a, b) => a * b, 1);
      const type = arrayOf[entry.dtype];
      if (count * type.BYTES_PER_ELEMENT !== end - begin) fail(`tensor ${JSON.stringify(name)}: its shape and byte range differ`);
      const data = new type(count);
      await fill(bufferSourceToUint8Array(data), 8 + headerBytes + begin);
      tensors.set(name, { data, shape: entry.shape });
      expected = end;
    }
    if (8 + headerBytes + expected !== size) fail(`${size - 8 - headerBytes - expected} bytes too many at the end`);
    return { tensors, metadata, sha256: hash.digest('hex') };
  } catch (cause) {
    if (cause instanceof LongerError) throw cause;
    return fail(`cannot be read: ${(cause as Error).message}`, cause);
  } finally {
    await file.close();
  }
}

/** Entries by position in the file. */
function parseHeader(json: Uint8Array, fail: (message: string, cause?: unknown) => never) {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json));
  } catch (cause) {
    return fail('its header is not JSON', cause);
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return fail('its header is not a JSON object');
  const entries: [string, Entry][] = [];
  let metadata: Record<string, string> = {};
  const whole = (x: unknown): boolean => Number.isSafeInteger(x) && (x as number) >= 0;
  for (const [name, value] of Object.entries(parsed as Record<string, Partial<Entry> | null>)) {
    if (name === '__metadata__') {
      metadata = { ...(value as Record<string, string>) };
      continue;
    }
    const offsets = value?.data_offsets;
    if (!Array.isArray(value?.shape) || !value.shape.every(whole) || !Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(whole))
      return fail(`tensor ${JSON.stringify(name)} has no proper shape or byte range`);
    if (!Object.hasOwn(arrayOf, String(value.dtype))) return fail(`tensor ${JSON.stringify(name)} has the type ${String(value.dtype)}; F32, I32 and F64 are read`);
    entries.push([name, value as Entry]);
  }
  entries.sort(([, a], [, b]) => a.data_offsets[0] - b.data_offsets[0] || a.data_offsets[1] - b.data_offsets[1]);
  return { entries, metadata };
}
