/** The kinds of features a schema is made of. */

export type Id = number | bigint | string;

interface Common {
  /** A missing value (null or undefined) is allowed and adds nothing. */
  readonly optional?: boolean;
}

/** One id: a row of a shared table (by name) or of a table of its own. */
export interface IdFeature<O extends boolean = boolean> extends Common {
  readonly type: 'id';
  readonly table?: string;
  readonly size?: number;
  readonly width?: number;
  readonly hash?: boolean;
  readonly optional?: O;
}

/** Any number of ids, summed or averaged. */
export interface IdsFeature extends Common {
  readonly type: 'ids';
  readonly table?: string;
  readonly size?: number;
  readonly width?: number;
  readonly hash?: boolean;
  readonly pooling: 'sum' | 'mean';
}

/** A number, standardised to (x - mean) / std, or put into buckets that have embeddings. */
export interface NumericFeature<O extends boolean = boolean> extends Common {
  readonly type: 'numeric';
  readonly mean?: number;
  readonly std?: number;
  readonly boundaries?: readonly number[];
  readonly width?: number;
  readonly optional?: O;
}

export type Feature = IdFeature | IdsFeature | NumericFeature;
export type Features = Readonly<Record<string, Feature>>;

// What is returned infers nothing: a schema asks for any feature, and `optional` would be lost in that.
interface IdOptions<O extends boolean> {
  /** Ids of 64 bits (number, bigint, string) hashed into the table's rows; otherwise ids are row numbers. */
  readonly hash?: boolean;
  readonly optional?: O;
}

/** `id('item')` uses a shared table; `id(100, 8)` a table of its own with 100 rows of width 8. */
export function id<O extends boolean = false>(table: string, options?: IdOptions<O>): IdFeature<NoInfer<O>>;
export function id<O extends boolean = false>(size: number, width: number, options?: IdOptions<O>): IdFeature<NoInfer<O>>;
export function id<O extends boolean = false>(a: string | number, b?: number | IdOptions<O>, c: IdOptions<O> = {}): IdFeature<NoInfer<O>> {
  if (typeof a === 'string') return { type: 'id', table: a, ...(b as IdOptions<O> | undefined) };
  return { type: 'id', size: a, width: b as number, ...c };
}

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
