import { createHash } from 'node:crypto';
import { LongerError } from '../errors.ts';
import type { Features, Id, IdFeature, IdsFeature, NumericFeature } from './features.ts';
import { schemaShape } from './schema_shape.ts';
import type { SchemaSpec, TableSpec } from './spec.ts';
import { nearest } from './suggest.ts';

export type { SchemaSpec, TableSpec };

export const sides = ['user', 'context', 'event', 'candidate'] as const;
export type Side = (typeof sides)[number];

/** Numbers of any width, as typed arrays hold them. */
type NumberView = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | Float32Array | Float64Array;
type IdView = NumberView | BigInt64Array | BigUint64Array;
type ValueOf<F> = F extends IdFeature ? Id : F extends IdsFeature ? readonly Id[] | IdView : F extends NumericFeature ? number : never;
/** Names of the features that are declared optional; where names are known to no type, any may be. */
type OptionalOf<F> = string extends keyof F ? keyof F : { [K in keyof F]: F[K] extends { readonly optional?: infer O } ? ([O] extends [true | undefined] ? K : never) : never }[keyof F];
type RowOf<F> = F extends Features
  ? { readonly [K in Exclude<keyof F, OptionalOf<F>>]: ValueOf<F[K]> } & { readonly [K in OptionalOf<F>]?: ValueOf<F[K]> | null | undefined }
  : unknown;
type ColumnOf<F, Missing = never> = readonly (ValueOf<F> | Missing)[] | (F extends IdFeature ? IdView : F extends NumericFeature ? NumberView : never);
type ColumnsOf<F> = F extends Features
  ? { readonly [K in Exclude<keyof F, OptionalOf<F>>]: ColumnOf<F[K]> } & { readonly [K in OptionalOf<F>]?: ColumnOf<F[K], null | undefined> | null | undefined }
  : unknown;
type TimeOf<S extends SchemaSpec> = S['time'] extends false ? unknown : { /** Seconds, as since 1970. */ readonly time: number };
type TimesOf<S extends SchemaSpec> = S['time'] extends false ? unknown : { /** Seconds, as since 1970. */ readonly time: readonly number[] | Float64Array | Int32Array | Uint32Array };

/** A part that the schema has, has not, or (where no type knows the schema) may have. */
type PartOf<Name extends string, F> = [F] extends [Features] ? { readonly [K in Name]: RowOf<F> } : unknown extends F ? unknown : { readonly [K in Name]?: RowOf<Features> };

/** An event of a history as the schema types it, with its time in seconds where the schema has time. */
export type EventOf<S extends SchemaSpec> = RowOf<S['event']> & TimeOf<S>;
/** A candidate as the schema types it. */
export type CandidateOf<S extends SchemaSpec> = RowOf<S['candidate']>;

/** A request as the schema types it: one user, one context, one time, a history (oldest first), candidates, labels. */
export type RequestOf<S extends SchemaSpec> = TimeOf<S> & {
  /** Comes back with scores and errors. */
  readonly id?: string | undefined;
  /** Groups requests of one user for GAUC. Default: the first user id feature. */
  readonly userKey?: string | number | bigint | undefined;
  /** Events of the user before the first one of `history`; matters to models that count from the oldest. Default 0. */
  readonly historyStart?: number | undefined;
  /** Oldest first: a list of events, or an object of columns of one length. */
  readonly history: readonly EventOf<S>[] | (ColumnsOf<S['event']> & TimesOf<S>);
  /** A list of candidates, or an object of columns of one length. */
  readonly candidates: readonly CandidateOf<S>[] | ColumnsOf<S['candidate']>;
  /** By task, a list with 0 (false), 1 (true) or null (no label) for each candidate; a task that is left out has no labels. */
  readonly labels?: { readonly [K in keyof S['labels']]?: ArrayLike<number | boolean | null> | undefined } | undefined;
} & PartOf<'user', S['user']> & PartOf<'context', S['context']>;

/** A request without its candidates: what a ranker prefills. */
export type HistoryOf<S extends SchemaSpec> = Omit<RequestOf<S>, 'candidates' | 'labels'>;

/** The candidates of one request, as rows or as columns. */
export type CandidatesOf<S extends SchemaSpec> = RequestOf<S>['candidates'];

/** An embedding field of one side, as models walk it. */
export interface Field {
  readonly name: string;
  readonly table: string;
  readonly width: number;
  readonly kind: 'id' | 'ids';
  readonly pooling: 'sum' | 'mean';
  readonly hash: boolean;
  readonly optional: boolean;
  /** Of a bucketised number; its bucket is the id. */
  readonly boundaries?: readonly number[];
}

export interface SideDescription {
  readonly fields: readonly Field[];
  readonly numeric: readonly { readonly name: string; readonly mean: number; readonly std: number; readonly optional: boolean }[];
  readonly numericCount: number;
  /** Of all features, and of those that a row may lack. */
  readonly names: ReadonlySet<string>;
  readonly mayLack: readonly string[];
}

/** What requests look like; `defineSchema` makes one, `JSON.stringify` and `schemaFromJSON` take it to a file and back. */
export class Schema<S extends SchemaSpec = SchemaSpec> {
  readonly spec: S;
  readonly tables: Readonly<Record<string, TableSpec>>;
  readonly sides: Readonly<Record<Side, SideDescription>>;
  readonly tasks: readonly { readonly name: string; readonly weight: number }[];
  readonly time: boolean;
  /** sha256 of the canonical JSON form. */
  readonly hash: string;

  constructor(spec: S) {
    schemaShape.check(spec, 'schema', 'ERR_SCHEMA');
    const tables: Record<string, TableSpec> = {};
    for (const [name, t] of Object.entries(spec.tables ?? {})) {
      tables[name] = t;
    }
    this.spec = spec;
    this.sides = Object.fromEntries(sides.map((side) => [side, describe(side, spec[side] ?? {}, tables)])) as Record<Side, SideDescription>;
    this.tables = tables;
    this.tasks = Object.entries(spec.labels ?? {}).map(([name, { weight = 1 }]) => ({ name, weight }));
    if (this.tasks.length === 0) throw new LongerError('ERR_SCHEMA', 'at least one label is needed', { place: 'schema.labels' });
    if (this.sides.event.fields.length === 0) throw new LongerError('ERR_SCHEMA', 'an event needs at least one id feature', { place: 'schema.event' });
    this.time = spec.time;
    this.hash = createHash('sha256').update(canonical(spec)).digest('hex');
  }

  toJSON(): { version: 1 } & S {
    return { version: 1, ...this.spec };
  }
}

/** @throws LongerError ERR_SCHEMA for what is no schema, such as its JSON form */
export function expectSchema(schema: Schema): void {
  if (typeof (schema as Partial<Schema> | null | undefined)?.sides === 'object') return;
  throw new LongerError('ERR_SCHEMA', 'expected what defineSchema gives', { place: 'schema', remedy: 'Of a JSON form, schemaFromJSON makes one' });
}

/** @throws LongerError ERR_SCHEMA naming the feature and what is wrong */
export function defineSchema<const S extends SchemaSpec>(spec: S): Schema<S> {
  return new Schema(spec);
}

/** A schema from its JSON form. @throws LongerError ERR_SCHEMA */
export function schemaFromJSON(json: object): Schema {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new LongerError('ERR_SCHEMA', `expected an object, got ${JSON.stringify(json)}`, { place: 'schema' });
  const { version, ...rest } = json as { version?: unknown };
  const spec = Object.fromEntries(Object.entries(rest).filter(([key]) => key !== '$schema'));
  if (version !== 1) throw new LongerError('ERR_SCHEMA', `version 1 is expected, got ${JSON.stringify(version)}`, { place: 'schema.version' });
  return new Schema(spec as unknown as SchemaSpec);
}

function describe(side: Side, features: Features, tables: Record<string, TableSpec>): SideDescription {
  const fields: Field[] = [];
  const numeric: { name: string; mean: number; std: number; optional: boolean }[] = [];
  for (const [name, f] of Object.entries(features)) {
    const place = `${side}.${name}`;
    if (name === 'time' || name.includes('.')) throw new LongerError('ERR_SCHEMA', `a feature cannot be named '${name}'`, { place });
    const optional = f.optional ?? false;
    if (f.type === 'numeric' && !f.boundaries) {
      const { mean = 0, std = 1 } = f;
      numeric.push({ name, mean, std, optional });
      continue;
    }
    if (f.type === 'numeric') {
      const boundaries = f.boundaries!;
      if (boundaries.some((b, i) => i > 0 && b <= boundaries[i - 1]!)) throw new LongerError('ERR_SCHEMA', 'boundaries must ascend', { place });
      const width = f.width ?? 8;
      tables[place] = { size: boundaries.length + 1, width };
      fields.push({ name, table: place, width, kind: 'id', pooling: 'sum', hash: false, optional, boundaries });
      continue;
    }
    const table = f.table ?? place;
    if (f.table === undefined) {
      if (f.size === undefined || f.width === undefined) throw new LongerError('ERR_SCHEMA', 'a table of its own needs size and width', { place, remedy: 'Or name a shared table' });
      tables[place] = { size: f.size, width: f.width, ...(f.hash ? { hash: true } : {}) };
    }
    const spec = tables[table];
    if (!spec) {
      const guess = nearest(table, Object.keys(tables));
      throw new LongerError('ERR_SCHEMA', `there is no table '${table}'${guess ? `; did you mean '${guess}'?` : ''}`, { place });
    }
    fields.push({ name, table, width: spec.width, kind: f.type, pooling: f.type === 'ids' ? f.pooling : 'sum', hash: spec.hash ?? false, optional });
  }
  const all = [...fields, ...numeric];
  return {
    fields, numeric, numericCount: numeric.length,
    names: new Set(all.map((f) => f.name)), mayLack: all.filter((f) => f.optional || ('kind' in f && f.kind === 'ids')).map((f) => f.name),
  };
}

/** JSON with sorted keys. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (typeof value === 'object' && value !== null)
    return `{${Object.entries(value)
      .filter(([, v]) => v !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([k, v]) => `${JSON.stringify(k)}:${canonical(v)}`)
      .join(',')}}`;
  return JSON.stringify(value);
}
