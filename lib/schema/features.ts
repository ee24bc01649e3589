/** The kinds of features a schema is made of. */

/** 7, 7n and '7' are one id. Above 2^53 a number is not exact: give a bigint or a string. */
export type Id = number | bigint | string;

interface Common {
  /** A missing value (null or undefined) is allowed and adds nothing. */
  readonly optional?: boolean;
}

/** One id: a row of a shared table (by name) or of a table of its own. */
export interface IdFeature<O extends boolean = boolean> extends Common {
  readonly type: 'id';
  /** Name of a shared table; without it, the feature has a table of its own. */
  readonly table?: string;
  /** Rows of its own table. */
  readonly size?: number;
  /** Numbers of an embedding, of its own table. */
  readonly width?: number;
  /** Ids of 64 bits (number, bigint, string) are hashed into the rows; otherwise an id is a row, from 0 to size - 1. */
  readonly hash?: boolean;
  readonly optional?: O;
}

/** Any number of ids, summed or averaged. */
export interface IdsFeature extends Common {
  readonly type: 'ids';
  /** Name of a shared table; without it, the feature has a table of its own. */
  readonly table?: string;
  /** Rows of its own table. */
  readonly size?: number;
  /** Numbers of an embedding, of its own table. */
  readonly width?: number;
  /** Ids of 64 bits (number, bigint, string) are hashed into the rows; otherwise an id is a row, from 0 to size - 1. */
  readonly hash?: boolean;
  /** An empty list gives zeros either way. */
  readonly pooling: 'sum' | 'mean';
}

/** A number, standardised to (x - mean) / std, or put into buckets that have embeddings. */
export interface NumericFeature<O extends boolean = boolean> extends Common {
  readonly type: 'numeric';
  /** Default 0; a missing number counts as the mean. */
  readonly mean?: number;
  /** Above 0, default 1. */
  readonly std?: number;
  /** Ascending; instead of a number the model sees the embedding of a bucket, whose lower boundary is in it. */
  readonly boundaries?: readonly number[];
  /** Numbers of a bucket's embedding, default 8. */
  readonly width?: number;
  readonly optional?: O;
}

/** A feature of a schema, as `id`, `ids` and `numeric` make it. */
export type Feature = IdFeature | IdsFeature | NumericFeature;
/** The features of a side by name, in the order in which the model sees them. */
export type Features = Readonly<Record<string, Feature>>;

// What is returned infers nothing: a schema asks for any feature, and `optional` would be lost in that.
interface IdOptions<O extends boolean> {
  /** Ids of 64 bits (number, bigint, string) hashed into the table's rows; otherwise ids are row numbers. */
  readonly hash?: boolean;
  /** It may be left out, or null; it adds nothing then. */
  readonly optional?: O;
}

/** `id('item')` uses a shared table; `id(100, 8)` a table of its own with 100 rows of width 8. */
export function id<O extends boolean = false>(table: string, options?: IdOptions<O>): IdFeature<NoInfer<O>>;
export function id<O extends boolean = false>(size: number, width: number, options?: IdOptions<O>): IdFeature<NoInfer<O>>;
export function id<O extends boolean = false>(a: string | number, b?: number | IdOptions<O>, c: IdOptions<O> = {}): IdFeature<NoInfer<O>> {
  if (typeof a === 'string') return { type: 'id', table: a, ...(b as IdOptions<O> | undefined) };
  return { type: 'id', size: a, width: b as number, ...c };
}

/** Any number of ids, pooled to one embedding (default: their mean): of a shared table by name, or of a table of its own with `size` rows of `width`. */
export function ids(table: string, options?: { readonly pooling?: 'sum' | 'mean' }): IdsFeature;
export function ids(size: number, width: number, options?: { readonly pooling?: 'sum' | 'mean'; readonly hash?: boolean }): IdsFeature;
export function ids(a: string | number, b?: number | { readonly pooling?: 'sum' | 'mean' }, c: { readonly pooling?: 'sum' | 'mean'; readonly hash?: boolean } = {}): IdsFeature {
  if (typeof a === 'string') return { type: 'ids', table: a, pooling: 'mean', ...(b as object | undefined) };
  return { type: 'ids', size: a, width: b as number, pooling: 'mean', ...c };
}

/** `numeric({ mean, std })` is standardised; `numeric({ boundaries, width })` has boundaries.length + 1 buckets. */
export function numeric<O extends boolean = false>(options: Omit<NumericFeature, 'type' | 'optional'> & { readonly optional?: O } = {}): NumericFeature<NoInfer<O>> {
  return { type: 'numeric', ...options };
}
