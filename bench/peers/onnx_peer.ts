/** A process of its own with onnxruntime: one JSON object a line in, one out. See bench/cases/onnx.ts. */
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { readSafetensors } from '../../lib/model/safetensors.ts';
import { OnnxLonger } from './onnx_longer.ts';
import type { PeerConfig } from './peer_model.ts';

type Feeds = Record<string, unknown>;
interface Session {
  run(feeds: Feeds): Promise<Feeds>;
}
/** The part of `onnxruntime-node` that is used; the package belongs to bench/peers alone. */
interface Onnxruntime {
  readonly InferenceSession: { create(model: Uint8Array, options: object): Promise<Session> };
  readonly Tensor: new (type: 'int32' | 'float32', data: Int32Array | Float32Array, dims: readonly number[]) => { readonly data: Float32Array };
}
const ort = createRequire(import.meta.url)('onnxruntime-node') as Onnxruntime;

export interface Question {
  readonly cmd: 'open' | 'logits' | 'run';
  /** open: threads inside an operation, weights by path, and one user's history. */
  readonly threads: number;
  readonly weights: string;
  readonly config: PeerConfig;
  readonly user: Readonly<Record<string, readonly number[]>>;
  /** logits and run: what, and how often in a row. */
  readonly what: 'prefill' | 'cached' | 'full';
  readonly candidates: readonly number[];
  readonly times: number;
}

const int32 = (list: readonly number[]): unknown => new ort.Tensor('int32', Int32Array.from(list), [list.length]);

class Server {
  readonly #open: (model: Uint8Array, candidates?: number) => Promise<Session>;
  readonly #models: { readonly prefill: Session; readonly cached: Uint8Array; readonly full: Uint8Array };
  readonly #sessions = new Map<string, Promise<Session>>();
  readonly #user: Feeds;
  readonly #cache: Feeds;

  private constructor(open: (model: Uint8Array, candidates?: number) => Promise<Session>, models: { prefill: Session; cached: Uint8Array; full: Uint8Array }, user: Feeds, cache: Feeds) {
    this.#open = open;
    this.#models = models;
    this.#user = user;
    this.#cache = cache;
  }

  static async open(q: Question): Promise<Server> {
    const longer = new OnnxLonger(q.config, (await readSafetensors(q.weights)).tensors);
    const open = (model: Uint8Array, candidates?: number): Promise<Session> => ort.InferenceSession.create(model, {
      executionProviders: ['cpu'], graphOptimizationLevel: 'all', executionMode: 'sequential', intraOpNumThreads: q.threads, interOpNumThreads: 1, logSeverityLevel: 3,
      ...(candidates === undefined ? {} : { freeDimensionOverrides: { candidates } }),
    });
    const prefill = await open(longer.prefill());
    const user = Object.fromEntries(Object.entries(q.user).map(([name, ids]) => [name, int32(ids)]));
    return new Server(open, { prefill, cached: longer.cached(), full: longer.full() }, user, await prefill.run(user));
  }

  /** A session for each number of candidates, its sizes being known. */
  async call(q: Question): Promise<() => Promise<Feeds>> {
    if (q.what === 'prefill') return () => this.#models.prefill.run(this.#user);
    const { what } = q;
    const key = `${what} ${q.candidates.length}`;
    if (!this.#sessions.has(key)) this.#sessions.set(key, this.#open(this.#models[what], q.candidates.length));
    const session = await this.#sessions.get(key)!;
    const feeds = { ...(what === 'cached' ? this.#cache : this.#user), candidate: int32(q.candidates) };
    return () => session.run(feeds);
  }
}

let server: Server | null = null;
for await (const line of createInterface(process.stdin)) {
  const q = JSON.parse(line) as Question;
  let answer: object;
  if (q.cmd === 'open') {
    server = await Server.open(q);
    answer = {};
  } else {
    const call = await server!.call(q);
    if (q.cmd === 'logits') answer = { logits: [...((await call())['logits'] as { data: Float32Array }).data] };
    else {
      const start = performance.now();
      for (let i = 0; i < q.times; ++i) await call();
      answer = { seconds: (performance.now() - start) / 1000 / q.times };
    }
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
