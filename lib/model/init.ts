import type { ParameterLayout } from '../graph/lower.ts';
import type { Init } from '../graph/graph.ts';
import { LongerError } from '../errors.ts';

/** First values of every parameter, from a seed and the parameter's name alone: adding a layer changes no other's start. */
export function initialValues(layout: ParameterLayout, seed: number): Map<string, Float32Array> {
  const result = new Map<string, Float32Array>();
  const shapes = new Map([...layout.dense, ...layout.tables]);
  const make = (name: string): Float32Array => {
    const known = result.get(name);
    if (known) return known;
    const entry = shapes.get(name);
    if (!entry) throw new LongerError('ERR_GRAPH', `a parameter starts as a copy of '${name}', which this model does not have`);
    const data = fill(entry.shape, entry.value.parameter!.init, `${seed}:${name}`, make);
    result.set(name, data);
    return data;
  };
  for (const name of shapes.keys()) make(name);
  return result;
}

function fill(shape: readonly number[], init: Init, key: string, other: (name: string) => Float32Array): Float32Array {
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
  switch (init.kind) {
    case 'constant':
      return data.fill(init.value);
    case 'normal':
    case 'fan-in': {
      const std = init.kind === 'normal' ? init.std : init.gain / Math.sqrt(shape[0]!);
      const next = normals(key);
      for (let i = 0; i < data.length; ++i) data[i] = std * next();
      return data;
    }
    case 'copy':
      return other(init.of).map((x) => x * init.scale);
    case 'identity-tiles': {
      const [rows, columns] = [shape[0]!, shape[1]!];
      for (let r = 0; r < rows; ++r) for (let c = r; c < columns; c += rows) data[r * columns + c] = init.scale;
      return data;
    }
  }
}

/** Standard normal numbers (Box-Muller over a 32-bit counter hash), the same on every machine up to libm's last bit. */
function normals(key: string): () => number {
  let state = 0x811c9dc5;
  for (let i = 0; i < key.length; ++i) state = Math.imul(state ^ key.charCodeAt(i), 0x01000193);
  const uniform = (): number => {
    state = (state + 0x9e3779b9) | 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    z ^= z >>> 16;
    return ((z >>> 0) + 0.5) / 4294967296;
  };
  let spare: number | undefined;
  return () => {
    if (spare !== undefined) {
      const s = spare;
      spare = undefined;
      return s;
    }
    const r = Math.sqrt(-2 * Math.log(uniform()));
    const a = 2 * Math.PI * uniform();
    spare = r * Math.sin(a);
    return r * Math.cos(a);
  };
}
