import type { Tensor } from '../../lib/model/safetensors.ts';
import { OnnxGraph } from './onnx_graph.ts';
import type { PeerConfig } from './peer_model.ts';

/** What the user's side hands to the candidates: by layer keys [heads, width of a head, rows] and values [heads, rows, width of a head]. */
interface Cache {
  readonly keys: readonly string[];
  readonly values: readonly string[];
  /** What the request gives to the head's first layer, bias included: [1, hidden]. */
  readonly head: string;
  /** The user token [1, D], where each candidate has a row of it. */
  readonly user: string | null;
}

type Weights = ReadonlyMap<string, Tensor>;

/**
 * LONGER as ONNX graphs for one user of the longest history, written for speed on a CPU: static sizes, the attention's scale and the
 * positions' share of the first layer folded into constants, keys cached the way that products read them, the request's share of the head once a request.
 */
export class OnnxLonger {
  readonly #c: PeerConfig;
  readonly #weights: Weights;
  readonly #D: number;
  readonly #size: number;
  readonly #groups: number;
  /** Rows of a candidate: itself and, without anchors, the user's. */
  readonly #own: number;

  constructor(config: PeerConfig, weights: Weights) {
    this.#c = config;
    this.#weights = weights;
    this.#D = config.width * config.merge;
    this.#size = this.#D / config.heads;
    this.#groups = config.maxHistory / config.merge;
    this.#own = config.anchors > 0 ? 1 : 2;
  }

  prefill(): Uint8Array {
    const g = new OnnxGraph();
    const cache = this.#userSide(g);
    for (const [name, value] of this.#named(cache)) g.output(value, name, this.#shape(name));
    return g.encode();
  }

  cached(): Uint8Array {
    const g = new OnnxGraph();
    const take = (name: string): string => g.input(name, 'float', this.#shape(name));
    const layers = Array.from({ length: this.#c.selfLayers + 1 }, (_, i) => i);
    const cache = { keys: layers.map((i) => take(`k${i}`)), values: layers.map((i) => take(`v${i}`)), head: take('head'), user: this.#c.anchors > 0 ? null : take('user') };
    g.output(this.#candidateSide(g, cache), 'logits', ['candidates', 1]);
    return g.encode();
  }

  full(): Uint8Array {
    const g = new OnnxGraph();
    g.output(this.#candidateSide(g, this.#userSide(g)), 'logits', ['candidates', 1]);
    return g.encode();
  }

  #named(c: Cache): [string, string][] {
    return [...c.keys.map((k, i): [string, string] => [`k${i}`, k]), ...c.values.map((v, i): [string, string] => [`v${i}`, v]), ['head', c.head], ...(c.user === null ? [] : [['user', c.user] as [string, string]])];
  }

  #shape(name: string): number[] {
    if (name === 'head') return [1, this.#tensor('head.0.bias').shape[0]!];
    if (name === 'user') return [1, this.#D];
    const rows = this.#c.anchors + (name.endsWith('0') ? this.#groups : this.#asking);
    return name.startsWith('k') ? [this.#c.heads, this.#size, rows] : [this.#c.heads, rows, this.#size];
  }

  get #asking(): number {
    return Math.min(this.#c.k, this.#groups);
  }

  #tensor(name: string): Tensor & { readonly data: Float32Array } {
    const found = this.#weights.get(name);
    if (!found) throw new Error(`the weights have no '${name}'`);
    return found as Tensor & { readonly data: Float32Array };
  }

  /** A parameter, or rows [from, to) of it, times a factor. */
  #parameter(g: OnnxGraph, name: string, { from = 0, to = Infinity, factor = 1 } = {}): string {
    const { data, shape } = this.#tensor(name);
    const row = data.length / shape[0]!;
    const end = Math.min(to, shape[0]!);
    const part = data.slice(from * row, end * row);
    if (factor !== 1) part.forEach((x, i) => { part[i] = x * factor; });
    return g.constant(part, [end - from, ...shape.slice(1)], `${name} ${from} ${end} ${factor}`);
  }

  #linear(g: OnnxGraph, name: string, x: string, factor = 1): string {
    return g.op('Gemm', [x, this.#parameter(g, `${name}.weight`, { factor }), this.#parameter(g, `${name}.bias`, { factor })]);
  }

  #gelu(g: OnnxGraph, name: string, x: string): string {
    return g.op('Gelu', [this.#linear(g, name, x)]);
  }

  #mlp(g: OnnxGraph, name: string, x: string): string {
    return this.#linear(g, `${name}.1`, this.#gelu(g, `${name}.0`, x));
  }

  #norm(g: OnnxGraph, name: string, x: string): string {
    return g.op('LayerNormalization', [x, this.#parameter(g, `${name}.gain`), this.#parameter(g, `${name}.bias`)], { axis: -1, epsilon: { float: 1e-5 } });
  }

  #embed(g: OnnxGraph, table: string, ids: string): string {
    return g.op('Gather', [this.#parameter(g, `table.${table}`), ids]);
  }

  /** Output projection, residual, FFN, residual. */
  #finish(g: OnnxGraph, name: string, x: string, attended: string): string {
    const joined = g.op('Add', [x, this.#linear(g, `${name}.out`, attended)]);
    return g.op('Add', [joined, this.#linear(g, `${name}.ffn.down`, this.#gelu(g, `${name}.ffn.up`, this.#norm(g, `${name}.norm2`, joined)))]);
  }

  /** [rows, D] to [heads, rows, size]. */
  #heads(g: OnnxGraph, x: string): string {
    return g.transpose(g.reshape(x, -1, this.#c.heads, this.#size), 1, 0, 2);
  }

  #query(g: OnnxGraph, layer: number, x: string): string {
    return this.#heads(g, this.#linear(g, `layer${layer}.qkv.query`, x, 1 / Math.sqrt(this.#size)));
  }

  /** Groups of K events see each other: one attention over each span of several groups with what is not of the same group masked. */
  #inner(g: OnnxGraph, name: string, x: string): string {
    const { maxHistory, merge, width, innerHeads } = this.#c;
    const size = width / innerHeads;
    let span = merge;
    for (let s = merge; s <= 64; s += merge) if (maxHistory % s === 0) span = s;
    const spans = maxHistory / span;
    const mask = Float32Array.from({ length: span * span }, (_, i) => (Math.floor(i / span / merge) === Math.floor((i % span) / merge) ? 0 : -Infinity));
    const n = this.#norm(g, `${name}.norm1`, x);
    const part = (what: string, factor: number, ...perm: readonly number[]): string => g.transpose(g.reshape(this.#linear(g, `${name}.qkv.${what}`, n, factor), spans, span, innerHeads, size), ...perm);
    const scores = g.op('MatMul', [part('query', 1 / Math.sqrt(size), 0, 2, 1, 3), part('key', 1, 0, 2, 3, 1)]);
    const seen = g.op('Softmax', [span === merge ? scores : g.op('Add', [scores, g.constant(mask, [1, 1, span, span], 'inner mask')])], { axis: -1 });
    const a = g.op('MatMul', [seen, part('value', 1, 0, 2, 1, 3)]);
    return this.#finish(g, name, x, g.reshape(g.transpose(a, 0, 2, 1, 3), maxHistory, width));
  }

  #events(g: OnnxGraph): string {
    const { maxHistory: length, width, tables } = this.#c;
    const ids = (name: string): string => g.input(name, 'int32', [length]);
    const x = g.concat(1, this.#embed(g, 'item', ids('item')), this.#embed(g, tables['action']!, ids('action')), this.#embed(g, 'time_gap', ids('bucket')));
    // Positions are added to the first columns: their share of the first layer is a constant.
    const [w, b, position] = [this.#tensor('token.0.weight'), this.#tensor('token.0.bias').data, this.#tensor('table.position')];
    const hidden = w.shape[1]!;
    const share = new Float32Array(length * hidden);
    for (let i = 0; i < length; ++i)
      for (let h = 0; h < hidden; ++h) {
        let sum = b[h]!;
        for (let j = 0; j < position.shape[1]!; ++j) sum += position.data[(length - 1 - i) * position.shape[1]! + j]! * w.data[j * hidden + h]!;
        share[i * hidden + h] = sum;
      }
    const first = g.op('Gemm', [x, this.#parameter(g, 'token.0.weight'), g.constant(share, [length, hidden])]);
    const tokens = this.#linear(g, 'token.1', g.op('Gelu', [first]));
    let inner = tokens;
    for (let i = 0; i < this.#c.innerBlocks; ++i) inner = this.#inner(g, `inner${i}`, inner);
    return g.reshape(this.#c.innerBlocks > 0 ? g.op('Add', [tokens, inner]) : tokens, this.#groups, width * this.#c.merge);
  }

  #userSide(g: OnnxGraph): Cache {
    const { anchors, tables, selfLayers } = this.#c;
    const [segment, region, hour] = ['segment', 'region', 'hour'].map((f) => this.#embed(g, tables[f]!, g.input(f, 'int32', [1])));
    const ofUser = g.concat(1, segment!, region!);
    const user = this.#mlp(g, 'user_token', g.concat(1, ofUser, hour!));
    const history = this.#events(g);
    const rows = anchors > 0 ? g.concat(0, g.op('Add', [g.concat(0, user, this.#parameter(g, 'cls')), this.#parameter(g, 'slots')]), history) : history;
    const total = anchors + this.#groups;
    const asking = anchors + this.#asking;
    /** Of rows that have a place each: the user's globals in front see all, others what stands before them and themselves. */
    const mask = (places: readonly number[], keys: number, name: string): string => g.constant(Float32Array.from({ length: places.length * keys }, (_, i) => {
      const place = places[Math.floor(i / keys)]!;
      return place < anchors || i % keys <= place ? 0 : -Infinity;
    }), [1, places.length, keys], `mask ${name}`);
    const recent = (x: string): string => g.concat(0, ...(anchors > 0 ? [g.slice(x, 0, 0, anchors)] : []), g.slice(x, 0, total - this.#asking, total));
    const keys: string[] = [];
    const values: string[] = [];
    let x = recent(rows);
    for (let layer = 0; layer <= selfLayers; ++layer) {
      const name = `layer${layer}`;
      const n = this.#norm(g, `${name}.norm1`, layer === 0 ? rows : x);
      const q = this.#query(g, layer, layer === 0 ? recent(n) : n);
      const k = g.transpose(g.reshape(this.#linear(g, `${name}.qkv.key`, n), -1, this.#c.heads, this.#size), 1, 2, 0);
      const v = this.#heads(g, this.#linear(g, `${name}.qkv.value`, n));
      keys.push(k);
      values.push(v);
      const places = Array.from({ length: asking }, (_, i) => (layer === 0 && i >= anchors ? i + this.#groups - this.#asking : i));
      const scores = g.op('Add', [g.op('MatMul', [q, k]), mask(places, layer === 0 ? total : asking, layer === 0 ? 'cross' : 'self')]);
      const attended = g.op('MatMul', [g.op('Softmax', [scores], { axis: -1 }), v]);
      x = this.#finish(g, name, x, g.reshape(g.transpose(attended, 1, 0, 2), -1, this.#D));
    }
    const out = this.#norm(g, 'final_norm', x);
    const parts = [g.op('ReduceMean', [g.slice(out, 0, anchors, asking), g.ints(0)], { keepdims: 1 })];
    if (anchors > 0) parts.push(g.reshape(g.slice(out, 0, 0, anchors), 1, anchors * this.#D));
    const from = this.#own * this.#D + this.#tensor('table.item').shape[1]!;
    const head = g.op('Gemm', [g.concat(1, ...parts, this.#norm(g, 'head.user_norm', ofUser), this.#norm(g, 'head.context_norm', hour!)), this.#parameter(g, 'head.0.weight', { from }), this.#parameter(g, 'head.0.bias')]);
    return { keys, values, head, user: anchors > 0 ? null : user };
  }

  #candidateSide(g: OnnxGraph, cache: Cache): string {
    const own = this.#own;
    const item = this.#embed(g, 'item', g.input('candidate', 'int32', ['candidates']));
    const width = this.#tensor('table.item').shape[1]!;
    // As an event the candidate has its item's columns alone.
    const hidden = g.op('Gelu', [g.op('Gemm', [item, this.#parameter(g, 'token.0.weight', { to: width }), this.#parameter(g, 'token.0.bias')])]);
    const token = g.op('Add', [this.#linear(g, 'candidate_tile', this.#linear(g, 'token.1', hidden)), this.#mlp(g, 'candidate_token', item)]);
    const slot = (i: number): string => this.#parameter(g, 'candidate_slots', { from: i, to: i + 1 });
    // Rows by kind: all candidates' own, then all their user rows.
    const mine = g.op('Add', [token, slot(0)]);
    let x = mine;
    if (cache.user !== null) x = g.concat(0, mine, g.op('Expand', [g.op('Add', [cache.user, slot(1)]), g.op('Shape', [mine])]));
    const byKind = (t: string): string => g.reshape(t, this.#c.heads, own, -1, this.#size);
    for (let layer = 0; layer <= this.#c.selfLayers; ++layer) {
      const name = `layer${layer}`;
      const n = this.#norm(g, `${name}.norm1`, x);
      const q = this.#query(g, layer, n);
      const k = this.#heads(g, this.#linear(g, `${name}.qkv.key`, n));
      const v = this.#heads(g, this.#linear(g, `${name}.qkv.value`, n));
      const seen = g.op('MatMul', [q, cache.keys[layer]!]);
      // Every row sees the kinds that stand before it, of its own candidate, and itself.
      const ofKind = (t: string, kind: number): string => (own === 1 ? t : g.reshape(g.slice(byKind(t), 1, kind, kind + 1), this.#c.heads, 1, -1, this.#size));
      const extra = Array.from({ length: own }, (_, kind) => {
        if (own === 1) return g.op('ReduceSum', [g.op('Mul', [q, k]), g.ints(2)], { keepdims: 1 });
        const dots = g.op('ReduceSum', [g.op('Mul', [byKind(q), ofKind(k, kind)]), g.ints(3)], { keepdims: 1 });
        const hide = Float32Array.from({ length: own }, (_, row) => (kind <= row ? 0 : -Infinity));
        return g.reshape(g.op('Add', [dots, g.constant(hide, [1, own, 1, 1], `hide ${kind}`)]), this.#c.heads, -1, 1);
      });
      const probabilities = g.op('Softmax', [g.concat(2, seen, ...extra)], { axis: -1 });
      const rows = this.#shape(`v${layer}`)[1]!;
      const [shared, ...rest] = g.nodes('Split', [probabilities, g.ints(rows, ...extra.map(() => 1))], 1 + own, { axis: 2 });
      let attended = g.op('MatMul', [shared!, cache.values[layer]!]);
      rest.forEach((p, kind) => {
        const share = own === 1 ? g.op('Mul', [p, v]) : g.reshape(g.op('Mul', [g.reshape(p, this.#c.heads, own, -1, 1), ofKind(v, kind)]), this.#c.heads, -1, this.#size);
        attended = g.op('Add', [attended, share]);
      });
      x = this.#finish(g, name, x, g.reshape(g.transpose(attended, 1, 0, 2), -1, this.#D));
    }
    const out = this.#norm(g, 'final_norm', x);
    const flat = own === 1 ? out : g.reshape(g.transpose(g.reshape(out, own, -1, this.#D), 1, 0, 2), -1, own * this.#D);
    const first = g.op('Gemm', [g.concat(1, flat, this.#norm(g, 'head.candidate_norm', item)), this.#parameter(g, 'head.0.weight', { to: own * this.#D + width }), cache.head]);
    return this.#linear(g, 'head.2', this.#gelu(g, 'head.1', g.op('Gelu', [first])));
  }
}
