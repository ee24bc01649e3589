import type { NumericArray } from '../../native/types.ts';
import type { Subject } from './subject.ts';

/** What a mechanism promises, what was seen, and whether the two agree. */
export interface Proof {
  readonly mechanism: string;
  readonly claim: string;
  readonly measured: string;
  readonly pass: boolean;
}

/** null where the model has no such mechanism. */
export type Prover = (subject: Subject) => Promise<Proof | null>;

type Numbers = Exclude<NumericArray, Float64Array>;

const bitsOf = (a: Numbers): Uint32Array | Uint16Array => (a instanceof Uint16Array ? a : new Uint32Array(a.buffer, a.byteOffset, a.length));

/** How many numbers have other bits; all of them where the lengths differ. */
export function differing(a: Numbers, b: Numbers): number {
  if (a.length !== b.length) return Math.max(a.length, b.length);
  const [x, y] = [bitsOf(a), bitsOf(b)];
  let n = 0;
  for (let i = 0; i < x.length; ++i) if (x[i] !== y[i]) ++n;
  return n;
}

/** Counts numbers that ought to be the same bits. */
export class Equality {
  numbers = 0;
  different = 0;

  add(a: Numbers, b: Numbers): this {
    this.numbers += Math.max(a.length, b.length);
    this.different += differing(a, b);
    return this;
  }

  get holds(): boolean {
    return this.numbers > 0 && this.different === 0;
  }

  toString(): string {
    return `${this.different} of ${this.numbers} numbers differ`;
  }
}
