import { createHash, type Hash } from 'node:crypto';
import { firstKept, packBatch } from '../data/batch.ts';
import { joined } from '../data/joined.ts';
import { LongerError } from '../errors.ts';
import { sizeOf } from '../graph/dim.ts';
import { appendRefusal } from '../model/append.ts';
import { historyForm } from '../model/config.ts';
import type { CacheEntry } from '../model/model.ts';
import type { ModelInputs } from '../model/layout.ts';
import type { Prefilled, Ranker } from '../rank/ranker.ts';
import type { EncodedCandidates, EncodedRequest, EncodedSide } from '../schema/encode.ts';
import { running } from '../model/visibility.ts';
import { newEvents, newestRows, trimmed } from './growth.ts';

/** A request's history side and the key of its cache. */
export interface Prefix {
  readonly key: string;
  /** Whose caches no other shares. */
  readonly owner: string;
  /** Without its candidates, which take no part. */
  readonly request: EncodedRequest;
  /** What scoring reads of it; the columns of its events are left out. */
  readonly inputs: ModelInputs;
}

/** The parts of a request that no candidate changes, as the caller gave them or the store has them. */
export interface GivenHistory {
  readonly user?: unknown;
  readonly context?: unknown;
  readonly history: unknown;
}

/** A call's own history side, and the cache that stands for the expensive part of it. */
export interface Cached {
  readonly prefix: Prefix;
  readonly value: Prefilled;
}

let loaded = 0;

/** A ranker that serves: it names caches, joins and splits them, and is disposed when its last call is done. */
export class ServedModel {
  readonly ranker: Ranker;
  readonly name: string;
  /** Unique to this load: the same files loaded twice are two versions. */
  readonly version: string;
  /** Whether the cache of a history is a part of the cache of a longer one. */
  readonly grows: boolean;
  readonly #entries: readonly CacheEntry[];
  /** Inputs that the prefill reads. */
  readonly #read: readonly string[];
  /** Of the model alone. */
  readonly #salt: Hash;
  readonly #digests = new WeakMap<EncodedSide, string>();
  #calls = 0;
  #retired = false;

  constructor(ranker: Ranker, name: string) {
    const { model, precision } = ranker;
    this.ranker = ranker;
    this.name = name;
    this.version = `${++loaded}`;
    this.grows = appendRefusal(model.schema, model.config) === null;
    this.#entries = model.cacheIn(precision);
    this.#read = [...model.prefill(precision).inputs.keys()].sort();
    this.#salt = createHash('sha256').update(JSON.stringify([this.version, model.schema.hash, model.config, precision]));
  }

  get retired(): boolean {
    return this.#retired;
  }

  /**
   * A cache is a function of the weights and of what the prefill reads; the key is the SHA-256 of just that: version, schema,
   * configuration, precision, and the bytes of those inputs. The user, the context and the time of the request are among them where the
   * prefill reads them; where only the score graph does, it reads those of the call.
   * @param owner a user, whose caches no other user shares
   */
  prefix(request: EncodedRequest, owner: string): Prefix {
    const alone = { ...request, ...sliceCandidates(request, 0, 0) };
    const inputs = this.#rows([alone]);
    const hash = this.#salt.copy().update(JSON.stringify([owner, this.#eventDigest(alone)]));
    for (const name of this.#read) if (!ofEvents(name)) hashArray(hash, name, inputs);
    return { key: hash.digest('base64url'), owner, request: alone, inputs };
  }

  /** Of every input that is made of the events alone, computed once for the same encoded events. */
  #eventDigest(request: EncodedRequest): string {
    let digest = this.#digests.get(request.event);
    if (digest === undefined) {
      const { model } = this.ranker;
      const inputs = model.historyInputs(packBatch(model.schema, [request], historyForm(model.config)));
      const hash = createHash('sha256');
      for (const name of this.#read) if (ofEvents(name)) hashArray(hash, name, inputs);
      this.#digests.set(request.event, (digest = hash.digest('base64url')));
    }
    return digest;
  }

  /** The inputs of requests without the columns of their events: what scoring reads, and all of a key but the events' digest. */
  #rows(requests: readonly EncodedRequest[]): ModelInputs {
    const { schema, config } = this.ranker.model;
    const form = historyForm(config);
    const ends = requests.map((r) => r.historyStart + r.events);
    const firstEvents = Int32Array.from(requests, (r) => firstKept(schema, form, r));
    const eventCounts = firstEvents.map((first, r) => ends[r]! - first);
    const batch = packBatch(schema, requests, form, ends);
    const offsets = running(eventCounts);
    return this.ranker.model.historyInputs({ ...batch, firstEvents, eventCounts, events: offsets.at(-1)!, columns: new Map(batch.columns).set('event.offsets', offsets) });
  }

  /** Prefills together, and gives a cache for each. */
  async prefill(prefixes: readonly Prefix[]): Promise<Prefilled[]> {
    const all = await this.ranker.prefill(prefixes.map((p) => p.request));
    if (prefixes.length === 1) return [this.#kept(prefixes[0]!, all.arrays)];
    const at = new Map<string, number>();
    return prefixes.map((prefix) => this.#kept(prefix, new Map(this.#entries.map((e) => {
      const from = at.get(e.name) ?? 0;
      const to = from + sizeOf(e.rows, prefix.inputs.sizes) * e.width;
      at.set(e.name, to);
      return [e.name, all.arrays.get(e.name)!.slice(from, to)];
    }))));
  }

  /**
   * The cache of a prefix out of that of a shorter history: the bits of a prefill, for the work of what is new.
   * @param given what the prefix was encoded from
   * @returns undefined where the older cache is of no use to it
   */
  async append(past: Prefilled, prefix: Prefix, { user, context, history }: GivenHistory): Promise<Prefilled | undefined> {
    const { schema, config } = this.ranker.model;
    const rows = newEvents(schema, historyForm(config), past.requests[0]!, prefix.request);
    if (rows === undefined) return undefined;
    const { arrays } = await this.ranker.append(past, [{ user, context, time: prefix.request.time, history: newestRows(history, rows) }] as never);
    return this.#kept(prefix, arrays);
  }

  /** Logits of each list, [candidates, tasks], by the cache at its place. */
  async score(caches: readonly Cached[], lists: readonly EncodedCandidates[]): Promise<Float32Array[]> {
    const [{ prefix, value }] = caches as readonly [Cached];
    const logits = await this.ranker.score(caches.length === 1 ? { ...value, requests: [prefix.request], inputs: prefix.inputs } : this.#join(caches), lists);
    const tasks = this.ranker.model.schema.tasks.length;
    let from = 0;
    return lists.map((l) => logits.subarray(from, (from += l.candidates * tasks)));
  }

  bytes({ arrays, requests }: Prefilled): number {
    let bytes = 0;
    for (const array of arrays.values()) bytes += array.byteLength;
    for (const { event, eventTime } of requests) for (const array of [...event.ids.values(), ...event.offsets.values(), event.numeric, eventTime]) bytes += array.byteLength;
    return bytes;
  }

  /** A call that must finish on this model. @returns what to call when it has */
  enter(): () => void {
    if (this.#retired) throw new LongerError('ERR_DISPOSED', `the model '${this.name}' was replaced`);
    this.#calls++;
    let inside = true;
    return () => {
      if (!inside) return;
      inside = false;
      if (--this.#calls === 0 && this.#retired) this.ranker.dispose();
    };
  }

  /** No new calls; disposed after the last. */
  retire(): void {
    if (this.#retired) return;
    this.#retired = true;
    if (this.#calls === 0) this.ranker.dispose();
  }

  /** What is worth keeping of a prefill: what it computed, and the events where the cache can grow. A call brings its own inputs. */
  #kept({ request, inputs }: Prefix, arrays: Prefilled['arrays']): Prefilled {
    const { schema, config } = this.ranker.model;
    return { requests: this.grows ? [trimmed(schema, historyForm(config), request)] : [], inputs: { sizes: inputs.sizes, arrays: new Map() }, arrays };
  }

  #join(caches: readonly Cached[]): Prefilled {
    const requests = caches.map((c) => c.prefix.request);
    return {
      requests,
      inputs: this.#rows(requests),
      arrays: new Map(this.#entries.map(({ name, dtype }) => [name, joined<Float32Array | Uint16Array>(caches.map((c) => c.value.arrays.get(name)!), dtype === 'bf16' ? Uint16Array : Float32Array)])),
    };
  }
}

/** Whether an input depends on events and on nothing else of a request. */
const ofEvents = (name: string): boolean => name.startsWith('event.');

function hashArray(hash: Hash, name: string, { arrays }: ModelInputs): void {
  const array = arrays.get(name)!;
  hash.update(`\0${name}\0${array.constructor.name}\0${array.length}\0`).update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
}

/** Candidates `from` to `to` of a list. */
export function sliceCandidates(list: EncodedCandidates, from: number, to: number): EncodedCandidates {
  if (from === 0 && to === list.candidates) return list;
  const n = list.candidates;
  const { ids, offsets, numeric } = list.candidate;
  const width = n === 0 ? 0 : numeric.length / n;
  const tasks = n === 0 ? 0 : list.labels.length / n;
  const cutOffsets = new Map([...offsets].map(([name, o]) => [name, o.subarray(from, to + 1).map((x) => x - o[from]!)]));
  return {
    candidates: to - from,
    labels: list.labels.subarray(from * tasks, to * tasks),
    candidate: {
      ids: new Map([...ids].map(([name, column]) => {
        const o = offsets.get(name);
        return [name, o ? column.subarray(o[from]!, o[to]!) : column.subarray(from, to)];
      })),
      offsets: cutOffsets,
      numeric: numeric.subarray(from * width, to * width),
    },
  };
}
