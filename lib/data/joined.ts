/** Typed arrays end to end. */
export function joined<T extends Int32Array | Float32Array | Uint16Array>(parts: readonly T[], type: new (n: number) => T): T {
  const all = new type(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}
