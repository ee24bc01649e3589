import type { DTypeName, NumericArray } from './types.ts';

/** The arrays of this process that hold elements of a type; of bf16 and f16 their bits. */
export const arrayTypes = { f32: Float32Array, bf16: Uint16Array, f16: Uint16Array, f64: Float64Array, i32: Int32Array } as const;

/** Bytes of an element. */
export const elementBytes: Readonly<Record<DTypeName, number>> = { f32: 4, bf16: 2, f16: 2, f64: 8, i32: 4 };

/** Numbers of f32, bf16 or f16 as f32: exactly those. */
export function widened(a: NumericArray, dtype: DTypeName): Float32Array {
  if (a instanceof Float32Array) return a;
  if (dtype === 'f16') return Float32Array.from(a as Uint16Array, (bits) => numberOfHalf(bits));
  const wide = new Uint32Array(a.length);
  for (let i = 0; i < a.length; ++i) wide[i] = (a[i] as number) * 65536;
  return new Float32Array(wide.buffer);
}

function numberOfHalf(bits: number): number {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const size = exponent === 31 ? (fraction === 0 ? Infinity : NaN) : exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25);
  return bits & 0x8000 ? -size : size;
}
