/** How JSON spells a whole number. */
const wholeNumber = /^(?:0|-?[1-9]\d{0,19})$/;

/** Whether an id has 64 bits, signed or not: -2^63 to 2^64 - 1. */
export const has64Bits = (id: bigint): boolean => BigInt.asIntN(64, id) === id || BigInt.asUintN(64, id) === id;

/**
 * 64-bit ids to table rows. A number below 2^53 or a bigint gives its two 32-bit halves, a string the two halves of a
 * 64-bit FNV-1a-like hash of its UTF-16 units; murmur3's finalizer mixes both, and the row is the top of
 * mixed * size / 2^32. A string that spells a number of 64 bits as JSON does is that number: 7, 7n and '7' are one id, since
 * JSON and Parquet have to write ids above 2^53 differently.
 */
export function hashedRow(id: number | bigint | string, size: number): number {
  if (typeof id === 'string' && id.length <= 20 && wholeNumber.test(id)) {
    if (id.length <= 15) return hashedRow(Number(id), size);
    const number = BigInt(id);
    if (has64Bits(number)) return hashedRow(number, size);
  }
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
