import { Field, Float64, Int32, List, makeBuilder, Table, tableFromIPC, tableToIPC, Utf8, type DataType, type Vector } from 'apache-arrow';
import t, { type Test } from 'tap';
import { Ranker } from '../lib/rank/ranker.ts';
import { arrowType } from '../lib/serve/arrow_body.ts';
import { MemoryHistoryStore } from '../lib/serve/history_store.ts';
import { rankServer } from '../lib/serve/http_server.ts';
import { RankService } from '../lib/serve/rank_service.ts';
import { random, richSchema } from './helpers.ts';
import { request, runtime, saved } from './serve_helpers.ts';

type Row = Record<string, unknown>;
const list = (of: DataType): DataType => new List(new Field('item', of, true));
const types: Readonly<Record<string, DataType>> = {
  time: new Float64(), historyStart: new Int32(), userId: new Utf8(), topK: new Int32(), tasks: list(new Utf8()), stranger: new Int32(),
  'user.user_id': new Utf8(), 'user.age': new Float64(), 'user.likes': list(new Int32()), 'context.hour': new Int32(),
  'history.item': list(new Int32()), 'history.action': list(new Int32()), 'history.dwell': list(new Float64()), 'history.time': list(new Float64()),
  'candidates.item': list(new Int32()), 'candidates.price': list(new Float64()),
};

function column(name: string, rows: readonly unknown[]): Vector {
  const builder = makeBuilder({ type: types[name]!, nullValues: [null, undefined] });
  for (const value of rows) builder.append(value);
  return builder.finish().toVector();
}

/** Requests as rows with the columns of a data file. */
function table(rows: readonly Row[]): Table {
  const flat = rows.map((row) => Object.fromEntries(Object.entries(row).flatMap(([key, value]) => {
    if (Array.isArray(value) && key !== 'tasks') return Object.keys((value[0] ?? {}) as object).map((f) => [`${key}.${f}`, (value as Row[]).map((e) => e[f])]);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.entries(value).map(([f, v]) => [`${key}.${f}`, v as unknown]) : [[key, value]];
  })) as Row);
  return new Table(Object.fromEntries(Object.keys(flat[0]!).map((name) => [name, column(name, flat.map((row) => row[name]))])));
}

const encode = (...rows: readonly Row[]): Buffer => Buffer.from(tableToIPC(table(rows), 'stream'));

async function served(t: Test) {
  const service = new RankService(await Ranker.open(await saved(t), { runtime }), 'a', { timeout: 600_000 }, { histories: new MemoryHistoryStore(richSchema) });
  const app = await rankServer({ service });
  t.teardown(async () => {
    await app.close();
    await service.close();
  });
  const send = async (payload: Buffer | object, accept?: string) => {
    const reply = await app.inject({ method: 'POST', url: '/v1/rank', payload, headers: { 'content-type': Buffer.isBuffer(payload) ? arrowType : 'application/json', ...(accept === undefined ? {} : { accept }) } });
    return { status: reply.statusCode, type: reply.headers['content-type'], raw: reply.rawPayload, json: () => reply.json() as { index: number[]; cache: string; model: string; logits: Record<string, number[]>; error?: { field: string; message: string } } };
  };
  return { service, send };
}

await t.test('an Arrow body gives what JSON gives, to the bit, with a history or a stored one', async (t) => {
  const { send, service } = await served(t);
  for (let seed = 1; seed < 6; ++seed) {
    const { history, ...rest } = request(seed, 1 + 9 * seed, 2 * seed);
    const wanted = (await send({ ...rest, history })).json();
    const got = await send(encode({ ...rest, history }));
    t.same(got.json(), { ...wanted, cache: 'hit' });
    const told = await send(encode({ ...rest, history, historyStart: 0, topK: 2, tasks: ['buy'] }), arrowType);
    t.equal(told.type, arrowType);
    const reply = tableFromIPC(told.raw);
    const json = (await send({ ...rest, history, topK: 2, tasks: ['buy'] })).json();
    t.same([...(reply.getChild('index')!.toArray() as Int32Array)], json.index);
    t.same(reply.getChild('logits.buy')!.toArray(), Float32Array.from(json.logits['buy']!));
    t.same(Object.fromEntries(reply.schema.metadata), { model: json.model, cache: 'hit' });
    await service.histories!.replace(`u${seed}`, history as never);
    t.same((await send(encode({ ...rest, userId: `u${seed}`, topK: null }))).json().logits, wanted.logits);
  }
});

await t.test('what is wrong with an Arrow body is 400 and named', async (t) => {
  const { send } = await served(t);
  const { history, ...rest } = request(1, 5, 3);
  const timeless = { user: rest.user, context: rest.context, candidates: rest.candidates };
  for (const [body, field] of [
    [encode({ ...rest, history, stranger: 1 }), 'stranger'],
    [encode({ ...timeless, history }), 'body'],
    [encode({ ...rest }), 'history'],
    [encode({ ...rest, history, topK: 0 }), 'topK'],
    [encode({ ...rest, history, tasks: ['like'] }), 'tasks'],
    [encode({ ...rest, history, user: { ...rest.user, age: NaN } }), 'user.age'],
    [encode({ ...rest, history }, { ...rest, history }), 'body'],
    [Buffer.alloc(0), 'body'],
    [Buffer.from('{}'), 'body'],
    [Buffer.from(tableToIPC(table([{ ...rest, history }]), 'file')), 'body'],
  ] as const) {
    const reply = await send(body);
    t.same([reply.status, reply.json().error?.field], [400, field]);
  }
});

await t.test('broken Arrow bodies in numbers: 4xx and nothing else', async (t) => {
  const { send } = await served(t);
  const next = random(21);
  const int = (n: number): number => Math.floor(next() * n);
  const good = encode({ ...request(3, 6, 3), topK: 2 });
  const before = (await send(good)).json();
  const count = Number(process.env['LONGER_FUZZ'] ?? 2000);
  const seen = new Map<number, number>();
  for (let i = 0; i < count; ++i) {
    const body = Buffer.from(int(8) === 0 ? good.subarray(0, int(good.length)) : good);
    for (let n = 1 + int(3); n > 0 && body.length > 0; --n) body[int(body.length)] = int(3) === 0 ? int(256) : [0, 1, 0x7f, 0xff][int(4)]!;
    const { status } = await send(body);
    seen.set(status, (seen.get(status) ?? 0) + 1);
    if (status !== 200 && !(status >= 400 && status < 500)) t.fail(`${status} for ${body.toString('base64')}`);
  }
  t.comment(JSON.stringify([...seen]));
  t.ok((seen.get(400) ?? 0) > count / 10);
  t.same((await send(good)).json(), { ...before, cache: 'hit' }, 'and nothing stayed of them');
});
