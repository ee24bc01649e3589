import type { DTypeName } from './types.ts';

/** The arrays of this process that hold elements of a type; of bf16 and f16 their bits. */
export const arrayTypes = { f32: Float32Array, bf16: Uint16Array, f16: Uint16Array, f64: Float64Array, i32: Int32Array } as const;

/** Bytes of an element. */
export const elementBytes: Readonly<Record<DTypeName, number>> = { f32: 4, bf16: 2, f16: 2, f64: 8, i32: 4 };
