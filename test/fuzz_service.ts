import { once } from 'node:events';
import { connect } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { FastifyInstance } from 'fastify';
import type { Ranker } from '../lib/rank/ranker.ts';
import { encodeRequest } from '../lib/schema/encode.ts';
import { arrowBody, arrowType } from '../lib/serve/arrow_body.ts';
import type { HistoryStore } from '../lib/serve/history_store.ts';
import type { Row } from './arrow_bodies.ts';
import { type Input, Inputs } from './fuzz_inputs.ts';
import { richSchema } from './helpers.ts';

/** What is fuzzed, and what tells the right answers. */
export interface Fuzzed {
  readonly app: FastifyInstance;
  readonly histories: HistoryStore;
  /** Of the same model, in no service. */
  readonly ranker: Ranker;
  /** Whole requests, whose answers have to stay what they are. */
  readonly whole: readonly Row[];
}

export interface FuzzReport {
  readonly inputs: number;
  /** Answers by status; `none` of raw bytes: the socket was closed, or more was waited for. */
  readonly statuses: Readonly<Record<string, number>>;
  /** Answers of status 200 that were compared with the Ranker alone. */
  readonly compared: number;
  readonly failures: readonly string[];
  /** MiB of JavaScript's heap and buffers when a tenth was done, and at the end; of the process. */
  readonly heap: readonly [number, number];
  readonly rss: readonly [number, number];
}

interface Reply {
  readonly index: readonly number[];
  readonly logits: Readonly<Record<string, readonly number[]>>;
}

const tasks = ['click', 'buy'];
/** Inputs that are in flight together, with the whole requests between them. */
const together = 16;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/**
 * Sends broken requests to a service. A failure is a status of 500 or above, an answer of 200 that is not, to the bit, what the Ranker alone gives for the
 * same body, a whole request in between that is answered with anything else than before, and a promise that nobody caught.
 */
export async function fuzzService({ app, histories, ranker, whole }: Fuzzed, inputs: number, seed: number): Promise<FuzzReport> {
  const made = new Inputs(seed, whole);
  const statuses: Record<string, number> = {};
  const failures: string[] = [];
  const fail = (what: string): void => { if (failures.length < 20) failures.push(what); };
  let compared = 0;
  const unhandled = (error: unknown): void => { fail(`unhandled rejection: ${String(error)}`); };
  process.on('unhandledRejection', unhandled);

  const wanted = await Promise.all(whole.map((r) => answer(r)));
  const { port } = new URL(await app.listen({ port: 0, host: '127.0.0.1' }));

  async function answer(body: Row): Promise<{ scores: Float32Array; candidates: number }> {
    const stored = body['history'] === undefined ? await histories.read(body['userId'] as string) : undefined;
    const encoded = encodeRequest(richSchema, (stored ? { ...body, history: stored.events, historyStart: stored.dropped } : body) as never);
    return { scores: await ranker.score(await ranker.prefill([encoded])), candidates: encoded.candidates };
  }

  /** Says where a reply is not the right one. */
  function wrong(reply: Reply, body: Row, { scores, candidates }: { scores: Float32Array; candidates: number }): string | undefined {
    const names = (body['tasks'] as string[] | null | undefined) ?? tasks;
    const most = Math.min(candidates, Number(body['topK'] ?? candidates));
    if (reply.index.length !== most || new Set(reply.index).size !== most) return `${reply.index.length} places for ${most}`;
    for (const name of names) if (!reply.index.every((place, i) => scores[2 * place + tasks.indexOf(name)] === reply.logits[name]![i])) return `${name} is not that of the Ranker`;
    return undefined;
  }

  async function send(input: Input): Promise<void> {
    const { statusCode, body, headers } = await app.inject(input as never);
    statuses[statusCode] = (statuses[statusCode] ?? 0) + 1;
    const told = (): string => `${statusCode} ${body.slice(0, 300)} for ${input.method} ${input.url} ${JSON.stringify(input.headers)} ${input.payload.toString('base64').slice(0, 4000)}`;
    if (statusCode >= 500 || (statusCode !== 200 && statusCode < 400)) fail(told());
    if (statusCode !== 200 || input.method !== 'POST' || !input.url.includes('ank') || headers['content-type'] === arrowType) return;
    const arrow = input.headers['content-type'] === arrowType;
    const given = arrow ? await arrowBody(richSchema, input.payload) : JSON.parse(input.payload.toString().replace(/^\ufeff/, '')) as Row;
    ++compared;
    const bad = wrong(JSON.parse(body) as Reply, given, await answer(given));
    if (bad !== undefined) fail(`${bad}: ${told()}`);
  }

  async function sendRaw(bytes: Buffer): Promise<void> {
    const socket = connect(Number(port), '127.0.0.1');
    let said = '';
    socket.on('error', () => undefined).on('data', (chunk: Buffer) => { said += chunk.toString('latin1'); });
    socket.write(bytes);
    await Promise.race([once(socket, 'close').catch(() => undefined), new Promise((resolve) => setTimeout(resolve, 30))]);
    socket.destroy();
    const status = /^HTTP\/1\.1 (\d+)/.exec(said)?.[1] ?? 'none';
    statuses[status] = (statuses[status] ?? 0) + 1;
    for (const [, code] of said.matchAll(/^HTTP\/1\.1 (5\d\d)/gm)) fail(`raw ${code}: ${said.slice(0, 300)} for ${bytes.toString('base64').slice(0, 2000)}`);
  }

  async function sendWhole(i: number): Promise<void> {
    const body = whole[i]!;
    const reply = await app.inject({ method: 'POST', url: '/v1/rank', payload: body });
    const bad = reply.statusCode === 200 ? wrong(reply.json(), body, wanted[i]!) : `status ${reply.statusCode}`;
    if (bad !== undefined) fail(`whole request ${i}: ${bad}`);
  }

  const heap: number[] = [];
  const rss: number[] = [];
  const measure = async (): Promise<void> => {
    for (let i = 0; i < 5; ++i) { // what has a finalizer goes a turn later
      collect();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const { heapUsed, arrayBuffers, rss: all } = process.memoryUsage();
    heap.push((heapUsed + arrayBuffers) / 2 ** 20);
    rss.push(all / 2 ** 20);
  };
  let next = inputs / 10;
  for (let done = 0; done < inputs; done += together) {
    const n = Math.min(together, inputs - done);
    const raw = (done / together) % 40 === 39; // these wait
    await Promise.all([...Array.from({ length: n }, () => (raw ? sendRaw(made.raw()) : send(made.next()))), sendWhole((done / together) % whole.length)]);
    if (done + n < next) continue;
    next = Infinity;
    await measure();
  }
  await measure();
  process.off('unhandledRejection', unhandled);
  return { inputs, statuses, compared, failures, heap: [heap[0]!, heap[1]!], rss: [rss[0]!, rss[1]!] };
}
