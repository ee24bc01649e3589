/**
 * Definitions of the ranking and probability metrics, exact, on plain typed arrays.
 *
 * Ties are never broken by position: AUC counts a tied pair as one half (midranks); HR@k and NDCG@k are expected values
 * over all orders of the tied candidates. Sums run in float64; pair counts are whole numbers or halves, exact to 2^53.
 */

/** Probabilities are clamped to [epsilon, 1 - epsilon] inside logarithms; float32 cannot tell 1 - 6e-8 from 1. */
export const probabilityFloor = 1e-7;

/** The probability that a logit stands for. */
export function sigmoid(x: number): number {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
}

/** -ln of the probability given to what happened (nats), clamped by `probabilityFloor`. */
export function crossEntropy(probability: number, positive: boolean): number {
  const p = Math.min(1 - probabilityFloor, Math.max(probabilityFloor, probability));
  return positive ? -Math.log(p) : -Math.log1p(-p);
}

/** Entropy in nats of a yes/no event of the given rate; 0 at rates 0 and 1. */
export function binaryEntropy(rate: number): number {
  if (rate <= 0 || rate >= 1) return 0;
  return -(rate * Math.log(rate) + (1 - rate) * Math.log1p(-rate));
}

/**
 * Indices that sort `scores` ascending, stable: a radix sort of the float's bits, three passes of 11 bits.
 * -0 and +0 count as equal. @param scores [n], no NaN.
 */
export function sortedOrder(scores: Float32Array): Uint32Array {
  const n = scores.length;
  const keys = new Uint32Array(n);
  const bits = new Int32Array(1);
  const float = new Float32Array(bits.buffer);
  for (let i = 0; i < n; i++) {
    float[0] = scores[i]! + 0; // -0 + 0 is +0
    const b = bits[0]!;
    keys[i] = b < 0 ? ~b : b ^ 0x80000000;
  }
  let from = new Uint32Array(n);
  let to = new Uint32Array(n);
  for (let i = 0; i < n; i++) from[i] = i;
  for (const shift of [0, 11, 22]) {
    const starts = new Uint32Array(2049);
    for (let i = 0; i < n; i++) starts[((keys[i]! >>> shift) & 2047) + 1]!++;
    for (let b = 1; b <= 2048; b++) starts[b]! += starts[b - 1]!;
    for (let i = 0; i < n; i++) {
      const index = from[i]!;
      to[starts[(keys[index]! >>> shift) & 2047]!++] = index;
    }
    [from, to] = [to, from];
  }
  return from;
}

/**
 * Weighted area under the ROC curve over a sorted order: the chance that a positive stands above a negative, a tie
 * counting one half. With whole-number weights it equals repeating each sample that often.
 * @param order indices by ascending score (all, or one user's).
 * @param weights weight of a sample; null for 1.
 * @returns NaN when one class is missing.
 */
export function areaUnderCurve(
  scores: Float32Array, labels: Uint8Array, order: Uint32Array, weights: ((index: number) => number) | null = null,
): number {
  const n = order.length;
  let above = 0;
  let negatives = 0;
  let positives = 0;
  for (let i = 0; i < n;) {
    const score = scores[order[i]!]!;
    let tiedPositives = 0;
    let tiedNegatives = 0;
    for (; i < n; i++) {
      const index = order[i]!;
      if (scores[index]! !== score) break;
      const w = weights === null ? 1 : weights(index);
      if (labels[index]! === 1) tiedPositives += w;
      else tiedNegatives += w;
    }
    above += tiedPositives * (negatives + tiedNegatives / 2);
    negatives += tiedNegatives;
    positives += tiedPositives;
  }
  return positives > 0 && negatives > 0 ? above / (positives * negatives) : NaN;
}

/** What a ranking of one request's candidates is worth at one cut-off k; NaN where every order is worth the same. */
export interface RankingAtK {
  /** Chance that at least one positive is among the first k. NaN with fewer than k negatives: no order can miss. */
  readonly hit: number;
  /** Expected DCG over ideal DCG, gain 1 for a positive, discount 1 / log2(1 + rank). NaN without a negative: every order is ideal. */
  readonly ndcg: number;
}

/**
 * HR@k and NDCG@k of one request, as expected values over random orders of tied candidates.
 * A request without a positive has no ranking to judge: null. What a request can only do well says nothing of the ranking, and is NaN: one candidate
 * always hits and is always ideal, and so is a request of positives alone.
 * @param scores,labels one entry a candidate; label 1 is positive, everything else is not.
 */
export function rankingAtK(scores: ArrayLike<number>, labels: ArrayLike<number>, ks: readonly number[]): RankingAtK[] | null {
  const n = scores.length;
  let total = 0;
  for (let i = 0; i < n; i++) if (labels[i] === 1) total++;
  if (total === 0) return null;
  const order = Array.from({ length: n }, (_, i) => i).sort((a, b) => scores[b]! - scores[a]!);
  return ks.map((k) => {
    let missed = 1;
    let gain = 0;
    for (let start = 0; start < n && start < k;) {
      let end = start;
      let positives = 0;
      for (; end < n && scores[order[end]!] === scores[order[start]!]; end++) if (labels[order[end]!] === 1) positives++;
      const tied = end - start;
      const slots = Math.min(end, k) - start;
      if (positives > 0) {
        const share = positives / tied;
        for (let r = start; r < start + slots; r++) gain += share / Math.log2(r + 2);
        // No positive in the slots drawn without replacement: product of (negatives - j) / (tied - j).
        for (let j = 0; j < slots; j++) missed *= Math.max(0, tied - positives - j) / (tied - j);
      }
      start = end;
    }
    let ideal = 0;
    for (let r = 0; r < Math.min(total, k); r++) ideal += 1 / Math.log2(r + 2);
    return { hit: n - total >= k ? 1 - missed : NaN, ndcg: n > total ? gain / ideal : NaN };
  });
}
