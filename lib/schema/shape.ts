import { LongerError, type LongerErrorCode } from '../errors.ts';
import { nearest } from './suggest.ts';

/** What a JSON value may be, said once: it checks values and prints itself as JSON Schema. */
export interface Shape<T> {
  /** @throws LongerError with the code and the place of what does not fit */
  readonly check: (value: unknown, place: string, code: LongerErrorCode) => void;
  /** `over` laid on `base`, key by key where both are objects. */
  readonly merge: (base: unknown, over: unknown) => unknown;
  readonly json: () => Json;
  /** Kept for the types alone. */
  readonly of?: T;
}

type Json = Record<string, unknown>;
type Tree = Readonly<Record<string, unknown>>;
const isTree = (v: unknown): v is Tree => typeof v === 'object' && v !== null && !Array.isArray(v);

const replaced = (_: unknown, over: unknown): unknown => over;

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

function leaf<T>(expected: string, fits: (value: unknown) => boolean, json: Json, help: (value: unknown) => string = () => ''): Shape<T> {
  return {
    check(value, place, code) {
      if (!fits(value)) throw new LongerError(code, `expected ${expected}, got ${show(value)}${help(value)}`, { place });
    },
    merge: replaced,
    json: () => json,
  };
}

export interface Range {
  readonly min?: number;
  readonly max?: number;
  /** Bounds that are not themselves allowed. */
  readonly above?: number;
  readonly below?: number;
}

const said = ({ min, max, above, below }: Range): string =>
  [min === undefined ? '' : ` of at least ${min}`, above === undefined ? '' : ` above ${above}`, max === undefined ? '' : ` up to ${max}`, below === undefined ? '' : ` below ${below}`].filter((x) => x).join(' and');

function numeric(kind: 'integer' | 'number', range: Range): Shape<number> {
  const { min = -Infinity, max = Infinity, above = -Infinity, below = Infinity } = range;
  const limits = { minimum: range.min, maximum: range.max, exclusiveMinimum: range.above, exclusiveMaximum: range.below };
  return leaf(
    `a ${kind === 'integer' ? 'whole number' : 'number'}${said(range)}`,
    (v) => typeof v === 'number' && Number.isFinite(v) && (kind === 'number' || Number.isSafeInteger(v)) && v >= min && v <= max && v > above && v < below,
    { type: kind, ...Object.fromEntries(Object.entries(limits).filter(([, v]) => v !== undefined)) },
  );
}

export const number = (range: Range = {}): Shape<number> => numeric('number', range);
export const whole = (range: Range = {}): Shape<number> => numeric('integer', range);
export const truth = (): Shape<boolean> => leaf('true or false', (v) => typeof v === 'boolean', { type: 'boolean' });
export const text = (): Shape<string> => leaf('a text', (v) => typeof v === 'string', { type: 'string' });

export function oneOf<const T extends string>(...names: readonly T[]): Shape<T> {
  return leaf(names.map((n) => JSON.stringify(n)).join(' or '), (v) => names.includes(v as T), { enum: names }, (v) => {
    const guess = typeof v === 'string' ? nearest(v, names) : undefined;
    return guess ? `; did you mean "${guess}"?` : '';
  });
}

export function orNull<T>(shape: Shape<T>): Shape<T | null> {
  return {
    check: (value, place, code) => { if (value !== null) shape.check(value, place, code); },
    merge: (base, over) => (over === null ? null : shape.merge(base, over)),
    json: () => ({ anyOf: [shape.json(), { type: 'null' }] }),
  };
}

export function list<T>(shape: Shape<T>): Shape<readonly T[]> {
  return {
    check(value, place, code) {
      if (!Array.isArray(value)) throw new LongerError(code, `expected a list, got ${show(value)}`, { place });
      value.forEach((v, i) => { shape.check(v, `${place}[${i}]`, code); });
    },
    merge: replaced,
    json: () => ({ type: 'array', items: shape.json() }),
  };
}

/** Any names, each with a value of one shape. */
export function map<T>(shape: Shape<T>): Shape<Readonly<Record<string, T>>> {
  return {
    check(value, place, code) {
      if (!isTree(value)) throw new LongerError(code, `expected an object, got ${show(value)}`, { place });
      for (const [key, v] of Object.entries(value)) shape.check(v, `${place}.${key}`, code);
    },
    merge: replaced,
    json: () => ({ type: 'object', additionalProperties: shape.json() }),
  };
}

type Fields<T> = { readonly [K in keyof T]-?: Shape<Exclude<T[K], undefined>> };
type OptionalKeys<T> = { [K in keyof T]-?: object extends Pick<T, K> ? K : never }[keyof T];

/** An object with these keys and no other; those of `optional` may be left out. */
export function object<T extends object>(fields: Fields<T>, optional: readonly OptionalKeys<T>[] = []): Shape<T> {
  const shapes = fields as Readonly<Record<string, Shape<unknown>>>;
  const needed = Object.keys(shapes).filter((key) => !(optional as readonly string[]).includes(key));
  return {
    check(value, place, code) {
      if (!isTree(value)) throw new LongerError(code, `expected an object, got ${show(value)}`, { place });
      const at = (key: string): string => (place === '' ? key : `${place}.${key}`);
      for (const key of Object.keys(value)) {
        if (Object.hasOwn(shapes, key)) continue;
        const guess = nearest(key, Object.keys(shapes));
        throw new LongerError(code, `unknown key '${key}'${guess ? `; did you mean '${guess}'?` : `; known are ${Object.keys(shapes).join(', ')}`}`, { place });
      }
      for (const key of needed) if (value[key] === undefined) throw new LongerError(code, `the key '${key}' is missing`, { place });
      for (const [key, v] of Object.entries(value)) if (v !== undefined) shapes[key]!.check(v, at(key), code);
    },
    merge(base, over) {
      if (!isTree(over)) return over;
      const merged: Record<string, unknown> = {};
      // What the base has and this shape lacks is another kind's.
      if (isTree(base)) for (const key of Object.keys(base)) if (Object.hasOwn(shapes, key)) merged[key] = base[key];
      for (const [key, v] of Object.entries(over)) merged[key] = Object.hasOwn(shapes, key) ? shapes[key]!.merge(merged[key], v) : v;
      return merged;
    },
    json: () => ({ type: 'object', properties: Object.fromEntries(Object.entries(shapes).map(([key, s]) => [key, s.json()])), required: needed, additionalProperties: false }),
  };
}

/** An object whose key `tag` says which of the shapes it has. */
export function variants<T>(tag: string, shapes: Readonly<Record<string, Shape<unknown>>>): Shape<T> {
  const names = Object.keys(shapes);
  const of = (value: unknown): Shape<unknown> | undefined => {
    const kind = isTree(value) ? value[tag] : undefined;
    return typeof kind === 'string' && Object.hasOwn(shapes, kind) ? shapes[kind] : undefined;
  };
  return {
    check(value, place, code) {
      if (!isTree(value)) throw new LongerError(code, `expected an object, got ${show(value)}`, { place });
      const found = of(value);
      if (!found) oneOf(...names).check(value[tag], `${place}.${tag}`, code);
      else found.check(value, place, code);
    },
    merge(base, over) {
      const kind = isTree(over) && tag in over ? over : base;
      const found = of(kind);
      return found && isTree(over) ? found.merge(base, over) : over;
    },
    json: () => ({ anyOf: names.map((name) => shapes[name]!.json()) }),
  };
}

/** A value of the first shape where it is a text, else of the second. */
export function textOr<A extends string, B extends object>(a: Shape<A>, b: Shape<B>): Shape<A | B> {
  return {
    check: (value, place, code) => { (isTree(value) ? b : a).check(value, place, code); },
    merge: (base, over) => (isTree(over) ? b.merge(base, over) : over),
    json: () => ({ anyOf: [a.json(), b.json()] }),
  };
}

/** The JSON Schema of a shape of which every part may be left out: what is written over defaults. */
export function partial(json: Json): Json {
  return Object.fromEntries(
    Object.entries(json).flatMap(([key, value]): [string, unknown][] => {
      if (key === 'required' && json['type'] === 'object') return [];
      if (key === 'properties') return [[key, Object.fromEntries(Object.entries(value as Tree).map(([k, v]) => [k, partial(v as Json)]))]];
      if (key === 'anyOf') return [[key, (value as Json[]).map(partial)]];
      return [[key, value]];
    }),
  );
}
