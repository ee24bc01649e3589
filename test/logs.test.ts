import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { crc32c, TensorBoardLog } from '../lib/train/tensorboard.ts';

interface Event {
  time: number;
  step: number;
  version: string | undefined;
  values: Record<string, number>;
}

/** Reads the fields of a protobuf message: [number, value or content]. */
function fields(data: Buffer): [number, number | Buffer][] {
  const out: [number, number | Buffer][] = [];
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 1; ; shift *= 128) {
      const byte = data[at++]!;
      value += (byte & 127) * shift;
      if (byte < 128) return value;
    }
  };
  while (at < data.length) {
    const key = varint();
    const wire = key & 7;
    if (wire === 0) out.push([key >> 3, varint()]);
    else if (wire === 1) { out.push([key >> 3, data.readDoubleLE(at)]); at += 8; }
    else if (wire === 5) { out.push([key >> 3, data.readFloatLE(at)]); at += 4; }
    else if (wire === 2) { const n = varint(); out.push([key >> 3, data.subarray(at, at + n)]); at += n; }
    else throw new Error(`wire type ${wire}`);
  }
  return out;
}

function decode(file: Buffer): Event[] {
  const events: Event[] = [];
  const crc = (data: Buffer): number => { const c = crc32c(data); return Number((BigInt((c >>> 15) | (c << 17)) + 0xa282ead8n) & 0xffffffffn); };
  for (let at = 0; at < file.length; ) {
    const length = Number(file.readBigUInt64LE(at));
    if (file.readUInt32LE(at + 8) !== crc(file.subarray(at, at + 8))) throw new Error('the CRC of the length');
    const content = file.subarray(at + 12, at + 12 + length);
    if (file.readUInt32LE(at + 12 + length) !== crc(content)) throw new Error('the CRC of the content');
    at += 16 + length;
    const event: Event = { time: 0, step: 0, version: undefined, values: {} };
    for (const [field, value] of fields(content)) {
      if (field === 1) event.time = value as number;
      else if (field === 2) event.step = value as number;
      else if (field === 3) event.version = String(value);
      else if (field === 5)
        for (const [, item] of fields(value as Buffer)) {
          const parts = new Map(fields(item as Buffer));
          event.values[String(parts.get(1))] = parts.get(2) as number;
        }
    }
    events.push(event);
  }
  return events;
}

t.test('CRC-32C of RFC 3720', (t) => {
  t.equal(crc32c(Buffer.alloc(32)), 0x8a9136aa);
  t.equal(crc32c(Buffer.alloc(32, 0xff)), 0x62a8ab43);
  t.equal(crc32c(Buffer.from('123456789')), 0xe3069283);
  t.end();
});

t.test('a TensorBoard event file holds what was written', (t) => {
  const dir = join(t.testdir(), 'runs', 'a');
  const log = new TensorBoardLog(dir);
  log.scalars(1, { loss: 0.5, 'learning rate': 1e-3 }, 1000.25);
  log.scalars(300, { loss: NaN }, 1001);
  log.scalars(2 ** 40, { 'valid/auc': 0.75 }, 1002);
  log.close();
  log.scalars(2, { loss: 1 });
  const names = readdirSync(dir);
  t.match(names, [/^events\.out\.tfevents\.\d+\./]);
  const events = decode(readFileSync(join(dir, names[0]!)));
  t.equal(events[0]!.version, 'brain.Event:2');
  t.strictSame(events.slice(1).map((e) => [e.time, e.step, e.values]), [
    [1000.25, 1, { loss: 0.5, 'learning rate': Math.fround(1e-3) }], [1001, 300, { loss: NaN }], [1002, 2 ** 40, { 'valid/auc': 0.75 }],
  ]);
  t.end();
});
