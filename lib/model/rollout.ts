import type { NumericArray } from '../native/types.ts';
import type { LongerConfig } from './config.ts';
import { mostKeys } from './explanation.ts';
import type { ModelInputs } from './layout.ts';
import { anchorCount, candidateRowCount } from './visibility.ts';

/** Of one candidate: what its rows at the head are made of. All together are 1. */
export interface RolledOut {
  /** By merged token, the oldest first. */
  readonly groups: Float64Array;
  /** What stays on globals and learnable queries. */
  readonly rest: number;
}

/**
 * Attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928) of one request, from the head down: a row that comes out of a layer is half the row that went in
 * (the residual) and half what its attention saw, the mean over heads; a row that sees nothing is itself. A candidate's m rows count alike, as the
 * head reads all of them. MLPs, norms, value and output projections and gates are left out: where the model looked, not what it made of it.
 */
export class Rollout {
  readonly #config: LongerConfig;
  readonly #arrays: ReadonlyMap<string, NumericArray>;
  readonly #seen: (name: string) => Float32Array;
  /** Key rows of the cross layer, and asking rows. */
  readonly #keys: number;
  readonly #asking: number;

  /**
   * @param inputs of a batch of one request
   * @param seen outputs of `explanationGraph`
   */
  constructor(config: LongerConfig, { arrays }: ModelInputs, seen: (name: string) => Float32Array) {
    this.#config = config;
    this.#arrays = arrays;
    this.#seen = seen;
    this.#keys = this.#indices('key.offsets')[1]!;
    this.#asking = this.#indices('query.offsets')[1]!;
  }

  /** @param candidate its place in the request */
  of(candidate: number): RolledOut {
    const config = this.#config;
    const m = candidateRowCount(config);
    const anchors = anchorCount(config);
    let own = new Float64Array(m).fill(1 / m);
    let asking = new Float64Array(this.#asking);
    for (let layer = config.selfLayers; layer > 0; --layer) {
      const into = new Float64Array(this.#asking);
      own = this.#ofCandidate(layer, candidate, own, into);
      this.#ofHistory(layer, asking, into, (row) => row);
      asking = into;
    }
    const keys = new Float64Array(this.#keys);
    own = this.#ofCandidate(0, candidate, own, keys);
    const source = this.#indices('query.index');
    let rest = this.#ofHistory(0, asking, keys, (row) => source[row]!);
    for (const x of own) rest += x;
    for (let i = 0; i < anchors; ++i) rest += keys[i]!;
    return { groups: keys.slice(anchors), rest };
  }

  /** Takes the weights of a candidate's rows behind a layer to those in front of it, and adds to the rows of the history that they saw. */
  #ofCandidate(layer: number, candidate: number, own: Float64Array, into: Float64Array): Float64Array<ArrayBuffer> {
    const m = own.length;
    const columns = mostKeys(this.#config, layer) + m;
    const p = this.#seen(`candidates.${layer}`);
    const before = own.map((x) => x / 2);
    for (let t = 0; t < m; ++t) {
      const at = (candidate * m + t) * columns;
      const half = own[t]! / 2;
      for (let j = 0; j < into.length; ++j) into[j]! += half * p[at + j]!;
      for (let s = 0; s <= t; ++s) before[s]! += half * p[at + into.length + s]!;
    }
    return before;
  }

  /** The same for the asking rows. @param source the row that went in @returns what stays on rows that are no keys: learnable queries */
  #ofHistory(layer: number, asking: Float64Array, into: Float64Array, source: (row: number) => number): number {
    const columns = mostKeys(this.#config, layer);
    const p = this.#seen(`history.${layer}`);
    const rows = this.#indices('ask.offsets');
    const keys = this.#indices(layer === 0 ? 'cross.offsets' : 'self.offsets');
    const limits = this.#indices(layer === 0 ? 'cross.limits' : 'self.limits');
    const index = layer === 0 ? (this.#arrays.get('cross.index') as Int32Array | undefined) : undefined;
    let rest = 0;
    for (let segment = 0; segment < rows.length - 1; ++segment)
      for (let row = rows[segment]!; row < rows[segment + 1]!; ++row) {
        const weight = asking[row]!;
        if (weight === 0) continue;
        const first = keys[segment]!;
        const visible = Math.min(limits[row]!, keys[segment + 1]! - first);
        const kept = visible > 0 ? weight / 2 : weight;
        const from = source(row);
        if (from < into.length) into[from]! += kept;
        else rest += kept;
        for (let j = 0; j < visible; ++j) into[index ? index[first + j]! : first + j]! += (weight / 2) * p[row * columns + j]!;
      }
    return rest;
  }

  #indices(name: string): Int32Array {
    return this.#arrays.get(name) as Int32Array;
  }
}
