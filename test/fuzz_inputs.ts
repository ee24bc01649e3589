import { type DataType, Float32, Float64, Int32, Int64, tableToIPC, Utf8 } from 'apache-arrow';
import { arrowType } from '../lib/serve/arrow_body.ts';
import { arrowColumns, flat, listOf, type Row } from './arrow_bodies.ts';
import { random } from './helpers.ts';

/** A request over HTTP that is broken somewhere, mostly. */
export interface Input {
  readonly method: 'DELETE' | 'GET' | 'POST' | 'PUT';
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly payload: Buffer;
}

type Int = (n: number) => number;
type Holder = Record<string, unknown>;

const json = 'application/json';
/** What a JSON value may be replaced by. */
const values: readonly unknown[] = [
  null, '', 'x', 'NaN', -1, -0, 0.5, 1e308, 5e-324, 2 ** 31, 2 ** 53, 2 ** 64, true, [], {}, [null], [[1]], '__proto__', 'constructor', 'toString', '\ud800', '\u0000', '\u{1f600}\u202e', 'y'.repeat(5000),
  { toString: 1, valueOf: 1 }, { constructor: { name: { toString: 1 } } }, { length: 3 }, { 0: 1, length: 1 }, { item: 1 }, { item: [1, 2], action: [1], dwell: [], time: [3, 2, 1] }, [1, 'a', null], Array.from({ length: 400 }, () => 0),
];
/** What JSON has not, or only just has. */
const tokens = [
  'NaN', 'Infinity', '-', '1e999', '-1e999', '1e-999', '9007199254740993', '00', '0x1', '1e', '.5', 'undefined', 'null', '\\u0000', '\\ud800', '\\x', '"', '\\', '[[[[', '}}', ',', ',,', ':', '//', '/*',
  '"__proto__":{"x":1},', '"constructor":{"prototype":{"x":1}},', '"history":[],', '"time":1,', '"time":9e9,', '"userId":"anna",', '"userId":"bert",', '"user":{},', '"topK":1,', '"tasks":["buy"],', '\ufeff', '\u2028', '\u{1f600}',
];
/** Bytes that often stand for a length, an offset or the end of something. */
const telling = [0, 1, 0x0a, 0x22, 0x7f, 0x80, 0xc0, 0xfe, 0xff];
/** Whose histories are written: those of the whole requests must stay. */
const users = ['carl', 'dora', '', '%ff', '%00', '..', '%2e%2e%2fx', 'u'.repeat(300), '\u{1f600}', '__proto__', 'a b', '?x=1', '#'];

/** Broken requests without end, the same for the same seed; about half of them with JSON bodies, the rest with Arrow. */
export class Inputs {
  readonly #int: Int;
  readonly #requests: readonly Row[];
  /** Arrow streams: of whole requests, and of columns that have other types, rows or lengths. */
  readonly #streams: readonly Buffer[];

  /** @param requests whole ones, with histories and with userId */
  constructor(seed: number, requests: readonly Row[]) {
    const next = random(seed);
    this.#int = (n) => Math.floor(next() * n);
    this.#requests = requests;
    this.#streams = [...requests.map((r) => stream([flat(r)])), ...Array.from({ length: 200 }, () => this.#otherColumns())];
  }

  next(): Input {
    const int = this.#int;
    const route = int(20);
    const headers: Record<string, string> = { ...(int(25) === 0 ? { accept: arrowType } : {}), ...(int(25) === 0 ? { 'x-deadline-ms': this.#one(['soon', '-1', '0', 'NaN', '1e999', '', '1e400', '600000']) } : {}) };
    if (route === 0) return { method: this.#one(['POST', 'PUT', 'DELETE']), url: this.#path(), headers: { ...headers, 'content-type': json }, payload: this.#jsonBody({ events: this.#request()['history'] }) };
    if (route === 1) return { method: this.#one(['POST', 'GET', 'PUT']), url: '/v1/models', headers: { ...headers, 'content-type': json }, payload: this.#jsonBody({ name: 'none' }) };
    const arrow = route < 11;
    const payload = arrow ? this.#bytes(this.#one(this.#streams)) : this.#jsonBody(this.#request());
    const type = int(40) === 0 ? this.#one([json, arrowType, 'application/json; charset=utf-16', 'text/plain', 'application/x', '']) : arrow ? arrowType : json;
    return { method: 'POST', url: int(60) === 0 ? this.#one(['/v1/rank/', '/v1//rank', '/v1/rank?x=%ff', '/v1/%72ank', '/V1/RANK', '//']) : '/v1/rank', headers: { ...headers, 'content-type': type }, payload };
  }

  /** Bytes for a socket: a request whose head, lengths or chunks are broken. */
  raw(): Buffer {
    const int = this.#int;
    const body = this.#jsonBody(this.#request());
    const length = this.#one([body.length, body.length + 1, Math.max(0, body.length - 1), -1, 1e20, 'x', '0x10', `${body.length}\r\ncontent-length: 3`, '']);
    const chunked = int(3) === 0;
    const lines = [
      this.#one(['POST /v1/rank HTTP/1.1', 'POST /v1/rank HTTP/1.1', 'POST /v1/rank HTTP/1.0', 'POST  /v1/rank', 'PRI * HTTP/2.0', 'GET http://x/v1/rank HTTP/1.1', 'POST /v1/histories/%ff HTTP/1.1', 'get /metrics HTTP/1.1', `GET /${'a'.repeat(20_000)} HTTP/1.1`, 'POST /v1/rank HTTP/9.9']),
      'host: x', `content-type: ${this.#one([json, arrowType, 'a/b', '\u0001'])}`,
      chunked ? 'transfer-encoding: chunked' : `content-length: ${length}`,
      ...this.#one([[], [`x: ${'y'.repeat(30_000)}`], ['expect: 100-continue'], ['connection: upgrade', 'upgrade: h2c'], ['x\u0000: 1'], [': 1'], [' folded'], ['transfer-encoding: identity'], Array.from({ length: 3000 }, (_, i) => `h${i}: 1`)]),
    ];
    const end = this.#one(['\r\n', '\r\n', '\r\n', '\n']);
    const sent = chunked ? Buffer.concat([Buffer.from(`${this.#one([body.length.toString(16), 'ffffffffffffffff', '-1', 'zz', '0'])}\r\n`), body, Buffer.from('\r\n0\r\n\r\n')]) : body;
    const whole = Buffer.concat([Buffer.from(lines.join(end) + end + end), sent]);
    return int(2) === 0 ? whole : this.#bytes(whole);
  }

  #one<T>(list: readonly T[]): T {
    return list[this.#int(list.length)]!;
  }

  #request(): Holder {
    return structuredClone(this.#one(this.#requests)) as Holder;
  }

  #path(): string {
    const user = this.#one(users);
    return `/v1/histories/${/^[%?#\w.]*$/.test(user) ? user : encodeURIComponent(user)}`;
  }

  #jsonBody(value: Holder): Buffer {
    const int = this.#int;
    const how = int(10);
    if (how < 4) for (let n = 1 + int(3); n > 0; --n) this.#spoil(value);
    let text = JSON.stringify(value);
    if (how === 4) text = this.#nest(text);
    if (how >= 5 && how < 8) for (let n = 1 + int(4); n > 0; --n) text = this.#edit(text);
    return how < 8 ? Buffer.from(text) : this.#bytes(Buffer.from(text));
  }

  /** Changes one value, key or list of it. */
  #spoil(root: Holder): void {
    const int = this.#int;
    const places: [Holder, string][] = [];
    const walk = (node: unknown): void => {
      if (typeof node !== 'object' || node === null) return;
      for (const [key, value] of Object.entries(node)) {
        places.push([node as Holder, key]);
        walk(value);
      }
    };
    walk(root);
    if (places.length === 0) return;
    const [node, key] = this.#one(places);
    const [other, otherKey] = this.#one(places);
    const value = node[key];
    switch (int(7)) {
      case 0: delete node[key]; break;
      case 1: node[this.#one(['x', 'Item', 'history', 'userKey', 'time', 'id', 'labels', '', 'k'.repeat(20_000)])] = value; break;
      case 2: [node[key], other[otherKey]] = [structuredClone(other[otherKey]), structuredClone(value)]; break;
      case 3: if (Array.isArray(value)) node[key] = Array.from({ length: 1 + int(300) }, (_, i) => (value as unknown[])[i % Math.max(1, value.length)]); break;
      case 4: if (Array.isArray(value)) node[key] = (value as unknown[]).toReversed(); break;
      default: node[key] = structuredClone(this.#one(values));
    }
  }

  #nest(text: string): string {
    const depth = 1 + this.#int(9000);
    const [open, close] = this.#one([['[', ']'], ['{"a":', '}'], ['{"history":[', ']}']] as const);
    const at = text.indexOf(':', this.#int(text.length)) + 1;
    return `${text.slice(0, at)}${open.repeat(depth)}1${this.#int(4) === 0 ? '' : close.repeat(depth)}${text.slice(at + 1 + this.#int(3))}`;
  }

  #edit(text: string): string {
    const int = this.#int;
    const [at, other] = [int(text.length), int(text.length)];
    const keep = at + int(8);
    switch (int(6)) {
      case 0: return text.slice(0, at) + this.#one(tokens) + text.slice(keep);
      case 1: return text.slice(0, at) + text.slice(other, other + int(40)) + text.slice(keep);
      case 2: return text.slice(0, at);
      // A key twice, a number that no number holds.
      case 3: return text.replaceAll(/\{"/g, (open) => (int(4) === 0 ? `{${this.#one(tokens.filter((x) => x.startsWith('"') && x.endsWith(',')))}"` : open));
      case 4: return text.replaceAll(/\d+(\.\d+)?/g, (number) => (int(8) === 0 ? this.#one(['1e999', '-1e400', `${number}e30`, `0.${'0'.repeat(400)}1`, '9'.repeat(400), '-0', `${number}.5`, 'NaN', '1e-400']) : number));
      default: return text.slice(0, at) + String.fromCharCode(int(65_536)) + text.slice(keep);
    }
  }

  #bytes(whole: Buffer): Buffer {
    const int = this.#int;
    let b = Buffer.from(whole);
    for (let n = 1 + int(3); n > 0 && b.length > 8; --n) {
      const at = int(b.length);
      switch (int(7)) {
        case 0: b[at]! ^= 1 << int(8); break;
        case 1: b[at] = this.#one(telling); break;
        case 2: b.writeUInt32LE(this.#one([0, 1, 8, 0x7fffffff, 0x80000000, 0xffffffff]), int(b.length - 4)); break;
        case 3: b = int(3) === 0 ? b.subarray(0, at) : b; break;
        case 4: b = Buffer.concat([b.subarray(0, at), Buffer.from([int(256)]), b.subarray(at)]); break;
        case 5: b = Buffer.concat([b.subarray(0, at), b.subarray(at + 1 + int(16))]); break;
        default: b.copy(b, int(b.length), at, Math.min(b.length, at + 1 + int(32)));
      }
    }
    return b;
  }

  #otherColumns(): Buffer {
    const int = this.#int;
    const row: Holder = { ...flat(this.#request()) };
    const types: Record<string, DataType> = {};
    for (let n = 1 + int(2); n > 0; --n) {
      const name = this.#one(Object.keys(row));
      const value = row[name];
      const number = typeof value === 'number' || (Array.isArray(value) && typeof value[0] === 'number');
      switch (number ? int(8) : 7) {
        case 0: types[name] = Array.isArray(value) ? listOf(new Float32()) : new Float32(); break;
        case 1: types[name] = Array.isArray(value) ? new Float64() : listOf(new Int32()); row[name] = Array.isArray(value) ? value[0] : [value]; break;
        case 2: types[name] = Array.isArray(value) ? listOf(new Utf8()) : new Utf8(); row[name] = Array.isArray(value) ? value.map(String) : String(value); break;
        case 3: types[name] = Array.isArray(value) ? listOf(new Int64()) : new Int64(); row[name] = Array.isArray(value) ? value.map(() => BigInt(int(100)) - 5n) : 2n ** 62n; break;
        case 4: row[name] = Array.isArray(value) ? [...(value as number[]), ...(value as number[])] : null; break;
        case 5: types[name] = Array.isArray(value) ? listOf(new Float64()) : new Float64(); row[name] = Array.isArray(value) ? value.map(() => this.#one([NaN, Infinity, -1, 0.5, 1e300])) : NaN; break;
        case 6: row[name] = Array.isArray(value) ? (value as number[]).map((x) => (int(3) === 0 ? null : x)) : null; break;
        default: delete row[name];
      }
    }
    if (Object.keys(row).length === 0) return Buffer.alloc(0);
    return stream(Array.from({ length: this.#one([1, 1, 1, 1, 2]) }, () => row), types);
  }
}

const stream = (rows: readonly Row[], types?: Readonly<Record<string, DataType>>): Buffer => Buffer.from(tableToIPC(arrowColumns(rows, types), 'stream'));
