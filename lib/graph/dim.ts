/** Symbolic sizes: a constant plus whole multiples of named symbols, bound when a batch is run. */

export type Symbols = Readonly<Record<string, number>>;

export interface Dim {
  readonly constant: number;
  readonly terms: ReadonlyMap<string, number>;
}

export const fixed = (constant: number): Dim => ({ constant, terms: new Map() });

export const symbol = (name: string, coefficient = 1, constant = 0): Dim => ({ constant, terms: new Map([[name, coefficient]]) });

export function plus(a: Dim, b: Dim): Dim {
  const terms = new Map(a.terms);
  for (const [name, c] of b.terms) terms.set(name, (terms.get(name) ?? 0) + c);
  return { constant: a.constant + b.constant, terms };
}

export function times(a: Dim, factor: number): Dim {
  return { constant: a.constant * factor, terms: factor === 0 ? new Map() : new Map([...a.terms].map(([name, c]) => [name, c * factor])) };
}

export function sameDim(a: Dim, b: Dim): boolean {
  if (a.constant !== b.constant || a.terms.size !== b.terms.size) return false;
  for (const [name, c] of a.terms) if (b.terms.get(name) !== c) return false;
  return true;
}

/** @throws Error when a symbol has no size. */
export function sizeOf(dim: Dim, sizes: Symbols): number {
  let n = dim.constant;
  for (const [name, c] of dim.terms) {
    const size = sizes[name];
    if (size === undefined) throw new Error(`no size was given for the symbol '${name}'`);
    n += c * size;
  }
  return n;
}

/** The value of a dim without symbols. @throws Error for a symbolic one. */
export function constantOf(dim: Dim): number {
  if (dim.terms.size > 0) throw new Error(`expected a constant size, got ${showDim(dim)}`);
  return dim.constant;
}

export function showDim(dim: Dim): string {
  const parts = [...dim.terms].map(([name, c]) => (c === 1 ? name : `${c}*${name}`));
  if (dim.constant !== 0 || parts.length === 0) parts.push(String(dim.constant));
  return parts.join('+');
}
