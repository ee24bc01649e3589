/**
 * 64-bit ids to table rows. A number below 2^53 or a bigint gives its two 32-bit halves, a string the two halves of a
 * 64-bit FNV-1a-like hash of its UTF-16 units; murmur3's finalizer mixes both, and the row is the top of
 * mixed * size / 2^32.
 */
export function hashedRow(id: number | bigint | string, size: number): number {
  let low: number;
  let high: number;
  if (typeof id === 'number') {
    low = id | 0;
    high = Math.floor(id / 4294967296) | 0;
  } else if (typeof id === 'bigint') {
    low = Number(BigInt.asIntN(32, id));
    high = Number(BigInt.asIntN(32, id >> 32n));
  } else {
    low = 0x811c9dc5 | 0;
    high = 0x01000193;
    for (let i = 0; i < id.length; ++i) {
      const c = id.charCodeAt(i);
      low = Math.imul(low ^ c, 0x01000193);
      high = Math.imul(high ^ (c + i), 0x85ebca6b);
    }
  }
  let h = Math.imul(low, 0xcc9e2d51) ^ Math.imul((high << 15) | (high >>> 17), 0x1b873593);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  h = (h ^ (h >>> 16)) >>> 0;
  return Math.floor((h / 4294967296) * size);
}
