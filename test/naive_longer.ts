/**
 * LONGER for one user and one candidate, written down from the paper as plainly as possible: rows in the paper's order
 * (globals first, newest event first), explicit masks, no batching, no cache, nothing shared with the library but the
 * names of the parameters. The library has to agree with it to rounding in double.
 */
import type { LongerConfig } from '../lib/model/config.ts';
import type { EncodedRequest, EncodedSide } from '../lib/schema/encode.ts';
import type { Schema, Side } from '../lib/schema/schema.ts';

export type Parameters = ReadonlyMap<string, { readonly data: ArrayLike<number>; readonly shape: readonly number[] }>;
type Vector = number[];
type Matrix = Vector[];

const plus = (a: Vector, b: Vector): Vector => a.map((x, i) => x + b[i]!);
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const zeros = (n: number): Vector => new Array<number>(n).fill(0);

/** erf by the series whose terms are all positive. */
function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); ++n) sum += term *= (2 * x * x) / (2 * n + 1);
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}
const gelu = (x: number): number => 0.5 * x * (1 + erf(x / Math.SQRT2));
const silu = (x: number): number => x * sigmoid(x);

export class NaiveLonger {
  readonly #schema: Schema;
  readonly #c: LongerConfig;
  readonly #p: Parameters;
  /** What the attention of the last forward pass saw, layer by layer: of each row that asks, of each that answers, the mean over heads. */
  #seen: Matrix[] = [];

  constructor(schema: Schema, config: LongerConfig, parameters: Parameters) {
    this.#schema = schema;
    this.#c = config;
    this.#p = parameters;
  }

  /** Attention rollout from the events up: every row is shares of the merged tokens, newest first, and of what is none of them; of candidate `index` the mean over its rows. */
  rollout(request: EncodedRequest, index: number): { events: Vector; rest: number } {
    const c = this.#c;
    this.logits(request, index);
    const members = this.#members(request).reverse();
    const groups = members.length;
    const rest = [...zeros(groups), 1];
    const group = (g: number): Vector => rest.map((_, i) => (i === g ? 1 : 0));
    const positions = this.#asking(groups, request);
    const globals = this.#seen[0]!.length - positions.length;
    let asks = [...Array.from({ length: globals }, () => rest), ...positions.map((p) => (c.queries.kind === 'learnable' ? rest : group(p)))];
    let answers = [...asks.slice(0, globals), ...members.map((_, g) => group(g))];
    for (const seen of this.#seen) {
      asks = asks.map((own, r) => {
        const attended = seen[r]!.reduce((sum, p, j) => plus(sum, answers[j]!.map((x) => p * x)), zeros(groups + 1));
        return seen[r]!.some((p) => p > 0) ? plus(own, attended).map((x) => x / 2) : own;
      });
      answers = asks;
    }
    const rows = asks.slice(0, c.visibility === 'paper' ? globals : 1);
    const mass = rows.reduce(plus).map((x) => x / rows.length);
    const events = zeros(request.events);
    members.forEach((list, g) => { for (const e of list) events[e] = mass[g]! / list.length; });
    return { events, rest: mass[groups]! };
  }

  /** Logits of all tasks for candidate `index` of the request. */
  logits(request: EncodedRequest, index: number): Vector {
    const c = this.#c;
    this.#seen = [];
    const D = c.width * c.merge;
    const groups = this.#groups(request).reverse(); // newest first
    const features = [...this.#side(request, 'user', 0), ...this.#side(request, 'context', 0)];
    const user = features.length > 0 ? this.#mlp('user_token', features, 2, gelu) : this.#row('user_token.constant', 0);
    const uid = c.globals.uid === null ? null : this.#linear('uid_token', this.#lookup(request.user, this.#schema.sides.user.fields.find((f) => f.name === c.globals.uid)!, 0));
    const cls = Array.from({ length: c.globals.cls }, (_, i) => this.#row('cls', i));
    const candidate = this.#candidateToken(request, index);

    // The globals in the paper's order, and which of them belong to the user's side.
    let globals: Matrix;
    let userSide: number;
    if (c.visibility === 'paper') {
      const stored = [candidate, ...cls, ...(uid ? [uid] : []), user];
      globals = stored.map((g, slot) => plus(g, this.#row('candidate_slots', slot))).reverse();
      userSide = 0;
    } else {
      const stored = [user, ...(uid ? [uid] : []), ...cls];
      globals = [plus(candidate, this.#row('candidate_slots', 0)), ...stored.map((g, slot) => plus(g, this.#row('slots', slot)))];
      userSide = stored.length;
    }
    const m = globals.length;

    // Which merged tokens ask; a position counts from the newest.
    const positions = this.#asking(groups.length, request);
    const learnable = c.queries.kind === 'learnable';
    const newest = Math.ceil((request.historyStart + request.events) / c.merge) - 1;
    const groupsKept = this.#mostGroups();
    const bandSize = Math.floor(this.#places() / 2);
    let sequence = learnable ? positions.map((i) => this.#row('queries', i)) : positions.map((i) => groups[i]!);

    for (let layer = 0; layer <= c.selfLayers; ++layer) {
      const name = `layer${layer}`;
      // Rows that answer: [globals, all groups] in the cross layer, [globals, asking rows] after it.
      const answers = layer === 0 ? [...globals, ...groups] : [...globals, ...sequence];
      const asks = [...globals, ...sequence];
      const isGlobal = (i: number): boolean => i < m;
      const isUserSide = (i: number): boolean => c.visibility === 'anchored' && i > 0 && i < m && userSide > 0;
      const visible = (ask: number, answer: number): boolean => {
        if (c.visibility === 'anchored') {
          if (ask === 0) return true; // the candidate
          if (answer === 0) return false; // nobody else sees it
          if (isUserSide(ask) || isUserSide(answer)) return true;
        }
        if (isGlobal(ask)) return answer >= ask; // paper: j >= i
        if (isGlobal(answer)) return false;
        if (learnable) return layer > 0 ? answer <= ask : true;
        // Ordinals, counted from the user's first group of all.
        const asker = newest - positions[ask - m]!;
        const answerer = newest - (layer > 0 ? positions[answer - m]! : answer - m);
        if (answerer > asker) return false;
        if (c.window === 'full') return true;
        const band = Math.floor(asker / bandSize);
        return answerer >= band * bandSize - (layer > 0 ? 0 : groupsKept - 2 * bandSize);
      };
      const out = this.#block(name, asks, answers, visible, c.heads);
      globals = out.slice(0, m);
      sequence = out.slice(m);
    }

    const normed = (x: Vector): Vector => this.#norm('final_norm', x);
    const own = c.visibility === 'paper' ? [...globals].reverse() : [globals[0]!];
    const anchors = c.visibility === 'paper' ? [] : globals.slice(1);
    let pooled: Vector;
    // The library stores a sequence oldest first; learnable queries keep their own order.
    const stored = (learnable ? sequence : [...sequence].reverse()).map(normed);
    if (c.head.kind === 'flatten') {
      const places = this.#places();
      pooled = [...zeros((places - stored.length) * D), ...stored.flat()];
    } else pooled = zeros(D).map((_, i) => (stored.length === 0 ? 0 : stored.reduce((s, row) => s + row[i]!, 0) / stored.length));
    const request_ = [...pooled, ...anchors.map(normed).flat(), ...this.#headSide(request, 'user', 0), ...this.#headSide(request, 'context', 0)];
    return this.#mlp('head', [...own.map(normed).flat(), ...this.#headSide(request, 'candidate', index), ...request_], c.head.hidden.length + 1, gelu);
  }

  /** Positions of the asking rows, newest first; for learnable queries their numbers. */
  #asking(groups: number, request: EncodedRequest): number[] {
    const q = this.#c.queries;
    if (this.#c.window === 'banded') {
      // The newest two bands: of the newest one as many groups as there are, and the whole one before it.
      const size = Math.floor(this.#places() / 2);
      const all = Math.ceil((request.historyStart + request.events) / this.#c.merge);
      const inNewest = ((all - 1) % size) + 1;
      return Array.from({ length: groups === 0 ? 0 : Math.min(groups, inNewest + size) }, (_, i) => i);
    }
    const range = (from: number, to: number): number[] => Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);
    const even = (k: number, from: number, to: number): number[] => {
      const n = to - from;
      const count = Math.min(k, n);
      return Array.from({ length: Math.max(0, count) }, (_, i) => from + Math.floor((i * n) / count));
    };
    switch (q.kind) {
      case 'all': return range(0, groups);
      case 'recent': return range(0, Math.min(q.k, groups));
      case 'uniform': return even(q.k, 0, groups);
      case 'recent+uniform': return [...range(0, Math.min(q.recent, groups)), ...even(q.uniform, Math.min(q.recent, groups), groups)];
      case 'learnable': return range(0, q.k);
    }
  }

  #mostGroups(): number {
    const { maxHistory, merge, alignment } = this.#c;
    return alignment === 'oldest' ? Math.floor(maxHistory / merge) : Math.ceil(maxHistory / merge);
  }

  #places(): number {
    const groups = this.#mostGroups();
    const q = this.#c.queries;
    if (q.kind === 'all') return groups;
    if (q.kind === 'recent+uniform') return Math.min(groups, q.recent + q.uniform);
    return q.kind === 'learnable' ? q.k : Math.min(groups, q.k);
  }

  /** The events of each group, oldest first. */
  #members(request: EncodedRequest): number[][] {
    const { maxHistory, merge, alignment, timeGap } = this.#c;
    const { historyStart, events } = request;
    const groups: number[][] = [];
    if (alignment === 'newest') {
      for (let end = events; end > Math.max(0, events - maxHistory); end -= merge)
        groups.unshift(Array.from({ length: merge }, (_, i) => end - merge + i).filter((e) => e >= Math.max(0, events - maxHistory)));
      return groups;
    }
    // Groups of the ordinals g*K ... g*K+K-1; one that is not there from its first event, or whose first gap is not known, is left out.
    const needsPrevious = timeGap.to === 'previous' && this.#schema.time;
    for (let ordinal = 0; ordinal < historyStart + events; ordinal += merge) {
      const known = ordinal > historyStart || (ordinal === historyStart && (ordinal === 0 || !needsPrevious));
      if (known) groups.push(Array.from({ length: merge }, (_, i) => ordinal + i - historyStart).filter((e) => e < events));
    }
    return groups.slice(Math.max(0, groups.length - this.#mostGroups()));
  }

  /** Merged tokens, oldest first: a group of fewer than K events is padded with zeros in front. */
  #groups(request: EncodedRequest): Matrix {
    const { merge, width, inner } = this.#c;
    const groups: Matrix = [];
    for (const members of this.#members(request)) {
      const group = members.map((e) => this.#mlp('token', this.#event(request, e), 2, gelu));
      let rows = group;
      for (let i = 0; i < inner.blocks; ++i) rows = this.#block(`inner${i}`, rows, rows, () => true, inner.heads);
      const flat = group.flatMap((x, i) => (inner.blocks > 0 ? plus(x, rows[i]!) : x));
      groups.push([...zeros((merge - group.length) * width), ...flat]);
    }
    return groups;
  }

  #event(request: EncodedRequest, e: number): Vector {
    const ids = this.#schema.sides.event.fields.flatMap((f) => this.#lookup(request.event, f, e));
    const c = this.#c;
    const placed = plus(ids, this.#row('table.position', c.position === 'ordinal' ? (request.historyStart + e) % c.maxHistory : request.events - 1 - e));
    const times = request.eventTime;
    const gap = c.timeGap.to !== 'previous' ? request.time - times[e]! : e === 0 ? Infinity : times[e]! - times[e - 1]!;
    return [...placed, ...(this.#schema.time ? this.#row('table.time_gap', this.#bucket(gap)) : []), ...this.#numeric(request.event, 'event', e)];
  }

  #bucket(gap: number): number {
    let bucket = 0;
    for (let j = 0, boundary = 0; j < this.#c.timeGap.buckets - 1; ++j) {
      boundary = Math.max(boundary + 1, Math.ceil(Math.sqrt(2 ** j)));
      if (boundary <= Math.max(0, gap)) bucket = j + 1;
    }
    return bucket;
  }

  #candidateToken(request: EncodedRequest, index: number): Vector {
    const own = this.#mlp('candidate_token', this.#side(request, 'candidate', index), 2, gelu);
    if (this.#c.candidateEncoder === 'own') return own;
    const shared = this.#schema.sides.candidate.fields;
    const asEvent = this.#schema.sides.event.fields.flatMap((f) => {
      const same = shared.find((g) => g.name === f.name && g.table === f.table);
      return same ? this.#lookup(request.candidate, same, index) : zeros(f.width);
    });
    if (!this.#schema.sides.event.fields.some((f) => shared.some((g) => g.name === f.name && g.table === f.table))) return own;
    const row = [...asEvent, ...zeros(this.#schema.time ? this.#c.timeGap.width : 0), ...zeros(this.#schema.sides.event.numericCount)];
    return plus(this.#linear('candidate_tile', this.#mlp('token', row, 2, gelu)), own);
  }

  #block(name: string, asks: Matrix, answers: Matrix, visible: (ask: number, answer: number) => boolean, heads: number): Matrix {
    const c = this.#c;
    const query = asks.map((x) => this.#linear(`${name}.qkv.query`, this.#norm(`${name}.norm1`, x)));
    const key = answers.map((x) => this.#linear(`${name}.qkv.key`, this.#norm(`${name}.norm1`, x)));
    const value = answers.map((x) => this.#linear(`${name}.qkv.value`, this.#norm(`${name}.norm1`, x)));
    const seen = asks.map(() => zeros(answers.length));
    if (name.startsWith('layer')) this.#seen.push(seen);
    return asks.map((x, i) => {
      const width = x.length / heads;
      let attended: Vector = [];
      for (let h = 0; h < heads; ++h) {
        const part = (row: Vector): Vector => row.slice(h * width, (h + 1) * width);
        const scores = key.map((k, j) => (visible(i, j) ? part(query[i]!).reduce((s, q, d) => s + q * part(k)[d]!, 0) / Math.sqrt(width) : -Infinity));
        const top = Math.max(...scores);
        const weights = scores.map((s) => (top === -Infinity ? 0 : Math.exp(s - top)));
        const total = weights.reduce((a, b) => a + b, 0);
        if (total > 0) seen[i] = seen[i]!.map((s, j) => s + weights[j]! / total / heads);
        attended = [...attended, ...zeros(width).map((_, d) => (total === 0 ? 0 : value.reduce((s, v, j) => s + weights[j]! * part(v)[d]!, 0) / total))];
      }
      if (c.gate) {
        const open = this.#linear(`${name}.gate`, this.#norm(`${name}.norm1`, x));
        attended = attended.map((a, d) => a * sigmoid(open[d]!));
      }
      const joined = plus(x, this.#linear(`${name}.out`, attended));
      const up = this.#linear(`${name}.ffn.up`, this.#norm(`${name}.norm2`, joined));
      const hidden = c.ffn === 'gelu' ? up.map(gelu) : up.slice(0, up.length / 2).map((a, d) => silu(a) * up[up.length / 2 + d]!);
      return plus(joined, this.#linear(`${name}.ffn.down`, hidden));
    });
  }

  #side(request: EncodedRequest, side: Side, row: number): Vector {
    return [...this.#schema.sides[side].fields.flatMap((f) => this.#lookup(request[side], f, row)), ...this.#numeric(request[side], side, row)];
  }

  /** What the head reads of a side: its embeddings normalised, then the numeric features. */
  #headSide(request: EncodedRequest, side: Side, row: number): Vector {
    const all = this.#side(request, side, row);
    const width = all.length - this.#schema.sides[side].numericCount;
    return [...(width > 1 ? this.#norm(`head.${side}_norm`, all.slice(0, width)) : all.slice(0, width)), ...all.slice(width)];
  }

  #numeric(side: EncodedSide, name: Side, row: number): Vector {
    const n = this.#schema.sides[name].numericCount;
    return Array.from(side.numeric.slice(row * n, (row + 1) * n));
  }

  #lookup(side: EncodedSide, f: { readonly name: string; readonly table: string; readonly width: number; readonly kind: string; readonly pooling: string }, row: number): Vector {
    const ids = side.ids.get(f.name)!;
    const offsets = side.offsets.get(f.name);
    const mine = Array.from(f.kind === 'id' ? [ids[row]!] : ids.slice(offsets![row]!, offsets![row + 1]!)).filter((id) => id >= 0);
    const sum = mine.reduce((s, id) => plus(s, this.#row(`table.${f.table}`, id)), zeros(f.width));
    return f.kind === 'ids' && f.pooling === 'mean' && mine.length > 0 ? sum.map((x) => x / mine.length) : sum;
  }

  #row(name: string, row: number): Vector {
    const { data, shape } = this.#parameter(name);
    return Array.from({ length: shape[1]! }, (_, i) => data[row * shape[1]! + i]!);
  }

  #linear(name: string, x: Vector): Vector {
    const w = this.#parameter(`${name}.weight`);
    const b = this.#parameter(`${name}.bias`);
    if (w.shape[0] !== x.length) throw new Error(`${name}: ${x.length} numbers for ${w.shape.join(' x ')}`);
    return Array.from({ length: w.shape[1]! }, (_, o) => x.reduce((s, v, i) => s + v * w.data[i * w.shape[1]! + o]!, b.data[o]!));
  }

  #mlp(name: string, x: Vector, layers: number, activation: (x: number) => number): Vector {
    let y = x;
    for (let i = 0; i < layers; ++i) {
      y = this.#linear(`${name}.${i}`, y);
      if (i < layers - 1) y = y.map(activation);
    }
    return y;
  }

  #norm(name: string, x: Vector): Vector {
    const gain = this.#parameter(`${name}.gain`).data;
    const layer = this.#c.norm === 'layer';
    const mean = layer ? x.reduce((a, b) => a + b, 0) / x.length : 0;
    const power = x.reduce((s, v) => s + (v - mean) ** 2, 0) / x.length;
    return x.map((v, i) => ((v - mean) / Math.sqrt(power + 1e-5)) * gain[i]! + (layer ? this.#parameter(`${name}.bias`).data[i]! : 0));
  }

  #parameter(name: string): { readonly data: ArrayLike<number>; readonly shape: readonly number[] } {
    const found = this.#p.get(name);
    if (!found) throw new Error(`there is no parameter '${name}'`);
    return found;
  }
}
