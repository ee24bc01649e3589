import { createHash } from 'node:crypto';
import { packBatch } from '../data/batch.ts';
import { joined } from '../data/joined.ts';
import { LongerError } from '../errors.ts';
import { sizeOf } from '../graph/dim.ts';
import { historyForm } from '../model/config.ts';
import type { CacheEntry } from '../model/model.ts';
import type { ModelInputs } from '../model/layout.ts';
import type { Prefilled, Ranker } from '../rank/ranker.ts';
import type { EncodedCandidates, EncodedRequest } from '../schema/encode.ts';

/** A request's history side as the graphs read it, and the key of its cache. */
export interface Prefix {
  readonly key: string;
  /** Without its candidates, which take no part. */
  readonly request: EncodedRequest;
  readonly inputs: ModelInputs;
}

let loaded = 0;

/** A ranker that serves: it names caches, joins and splits them, and is disposed when its last call is done. */
export class ServedModel {
  readonly ranker: Ranker;
  readonly name: string;
  /** Unique to this load: the same files loaded twice are two versions. */
  readonly version: string;
  readonly #entries: readonly CacheEntry[];
  /** Inputs of the history side that prefill or score read. */
  readonly #read: readonly string[];
  readonly #salt: string;
  #calls = 0;
  #retired = false;

  constructor(ranker: Ranker, name: string) {
    const { model, precision } = ranker;
    this.ranker = ranker;
    this.name = name;
    this.version = `${++loaded}`;
    this.#entries = model.cacheIn(precision);
    this.#read = [...new Set([...model.prefill(precision).inputs.keys(), ...model.score(precision).inputs.keys()])].filter((n) => !n.startsWith('cache.')).sort();
    this.#salt = JSON.stringify([this.version, model.schema.hash, model.config, precision]);
  }

  get retired(): boolean {
    return this.#retired;
  }

  /**
   * A cache is a function of the weights and of what the two graphs read of the history side; the key is the SHA-256 of
   * just that: version, schema, configuration, precision, and the bytes of those inputs. The request's time is among
   * them where the model reads it.
   * @param owner a user, whose caches no other user shares
   */
  prefix(request: EncodedRequest, owner: string): Prefix {
    const { model } = this.ranker;
    const alone = { ...request, ...sliceCandidates(request, 0, 0) };
    const inputs = model.historyInputs(packBatch(model.schema, [alone], historyForm(model.config)));
    const hash = createHash('sha256').update(JSON.stringify([this.#salt, owner]));
    for (const name of this.#read) {
      const array = inputs.arrays.get(name);
      if (!array || name.startsWith('candidate.') || name === 'labels') continue; // of the candidates
      hash.update(`\0${name}\0${array.constructor.name}\0${array.length}\0`).update(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
    }
    return { key: hash.digest('base64url'), request: alone, inputs };
  }

  /** Prefills together, and gives a cache for each. */
  async prefill(prefixes: readonly Prefix[]): Promise<Prefilled[]> {
    const all = await this.ranker.prefill(prefixes.map((p) => p.request));
    if (prefixes.length === 1) return [{ requests: [prefixes[0]!.request], inputs: prefixes[0]!.inputs, arrays: all.arrays }];
    const at = new Map<string, number>();
    return prefixes.map(({ request, inputs }) => ({
      requests: [request],
      inputs,
      arrays: new Map(this.#entries.map((e) => {
        const from = at.get(e.name) ?? 0;
        const to = from + sizeOf(e.rows, inputs.sizes) * e.width;
        at.set(e.name, to);
        return [e.name, all.arrays.get(e.name)!.slice(from, to)];
      })),
    }));
  }

  /** Logits of each list, [candidates, tasks], by the cache at its place. */
  async score(caches: readonly Prefilled[], lists: readonly EncodedCandidates[]): Promise<Float32Array[]> {
    const logits = await this.ranker.score(caches.length === 1 ? caches[0]! : this.#join(caches), lists);
    const tasks = this.ranker.model.schema.tasks.length;
    let from = 0;
    return lists.map((l) => logits.subarray(from, (from += l.candidates * tasks)));
  }

  bytes(cache: Prefilled): number {
    let bytes = 0;
    for (const array of cache.arrays.values()) bytes += array.byteLength;
    for (const array of cache.inputs.arrays.values()) bytes += array.byteLength;
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

  #join(caches: readonly Prefilled[]): Prefilled {
    const { model } = this.ranker;
    const requests = caches.flatMap((c) => c.requests);
    return {
      requests,
      inputs: model.historyInputs(packBatch(model.schema, requests, historyForm(model.config))),
      arrays: new Map(this.#entries.map(({ name, dtype }) => [name, joined<Float32Array | Uint16Array>(caches.map((c) => c.arrays.get(name)!), dtype === 'bf16' ? Uint16Array : Float32Array)])),
    };
  }
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
