/** Of the time that is left to a call, the share that its wait may take if its cache is there: the estimate of a wait may be wrong by a factor of two. */
export const cachedShare = 1 / 2;
/** Least share of a call whose history must be read first; the most is that of the others. */
const leastShare = 1 / 4;
/** Milliseconds after which other owners come first. */
const term = 60_000;
/** Milliseconds without a pause after which work is more than a burst. */
const burst = 1000;

/**
 * The same for a call whose history must be read first: by its owner, drawn anew every minute. Under overload a visit is served whole or turned away
 * whole: calls refused by chance would leave each visit its prefill and take the hits after it. A burst passes, as that of all caches made anew after a
 * swap of the model: in it nobody comes before others.
 * @param now milliseconds
 * @param busy milliseconds since there was nothing to do
 */
export function readingShare(owner: string, now: number, busy: number): number {
  if (busy < burst) return cachedShare;
  let hash = 0x811c9dc5 ^ Math.floor(now / term);
  for (let i = 0; i < owner.length; ++i) hash = Math.imul(hash ^ owner.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return leastShare + ((cachedShare - leastShare) * ((hash ^ (hash >>> 16)) >>> 0)) / 2 ** 32;
}
