import { LongerError } from '../errors.ts';
import { expectOptions } from '../schema/given.ts';
import { areaUnderCurve, binaryEntropy, crossEntropy, rankingAtK, sortedOrder } from './metrics.ts';

/** A metric's name: one of six, or `hr@k` / `ndcg@k` for the cut-offs asked for. */
export type MetricName = 'auc' | 'gauc' | 'logLoss' | 'ne' | 'calibration' | 'baseRate' | `hr@${number}` | `ndcg@${number}`;

/** Values of one task. A metric that is not defined (one class only, no samples, no request that counts) is NaN. */
export interface MetricResult {
  /** Labelled impressions, the positive ones, users, users with both classes (those of GAUC). */
  readonly samples: number;
  readonly positives: number;
  readonly users: number;
  readonly usersWithBothClasses: number;
  /** Requests of which `hr@k` and `ndcg@k` are the means, those that a ranking can do well or badly on. */
  readonly rankedRequests: Readonly<Partial<Record<MetricName, number>>>;
  /**
   * - `auc`: chance that a random positive scores above a random negative, ties one half.
   * - `gauc`: mean of the users' AUC weighted by each user's impressions; users with one class only are left out.
   * - `logLoss`: mean cross entropy in nats; probabilities clamped to [1e-7, 1 - 1e-7].
   * - `ne`: logLoss over the entropy of the base rate of the same samples (1 = no better than knowing the rate).
   * - `calibration`: mean prediction over mean label (1 = right on average).
   * - `baseRate`: mean label.
   * - `hr@k`: mean over requests with a positive and at least k negatives, others having one among the first k in every order.
   * - `ndcg@k`: mean over requests with a positive and a negative. See `rankingAtK` for ties.
   */
  readonly values: Readonly<Partial<Record<MetricName, number>>>;
  /** 95 % percentile bootstrap over users, [low, high]; empty when `replicates` is 0. */
  readonly intervals: Readonly<Partial<Record<MetricName, readonly [number, number]>>>;
}

export interface MetricOptions {
  /** Cut-offs of HR@k and NDCG@k. Default 1, 5, 10. */
  readonly ks?: readonly number[];
  /** Bootstrap replicates for the intervals; 0 turns them off. Default 100. */
  readonly replicates?: number;
  /** Seed of the bootstrap; equal seeds and samples give equal intervals. Default 1. */
  readonly seed?: number;
}

/** Sums of one user; a bootstrap replicate is a weighted sum of these. */
const userColumns = ['samples', 'positives', 'loss', 'probability', 'gauc', 'gaucWeight'] as const;
/** Sums of a user's requests for each cut-off, and how many there are of them. */
const rankingColumns = ['hits', 'hitRequests', 'gains', 'gainRequests'] as const;

/** Collects predictions of one task request by request, then gives exact metrics. Memory: 13 bytes a sample. */
export class MetricSet {
  readonly ks: readonly number[];
  readonly replicates: number;
  readonly seed: number;
  #size = 0;
  #scores = new Float32Array(1024);
  #labels = new Uint8Array(1024);
  #userOf = new Int32Array(1024);
  readonly #users = new Map<string, number>();
  /** A user's `rankingColumns`, one after another for each cut-off. */
  readonly #ranking: Float64Array[] = [];

  /** @throws LongerError ERR_CONFIG naming the option */
  constructor(options: MetricOptions = {}) {
    expectOptions(options, ['ks', 'replicates', 'seed'], 'MetricSet');
    const whole = (place: string, n: number, least: number): void => {
      if (!Number.isSafeInteger(n) || n < least) throw new LongerError('ERR_CONFIG', `expected a whole number of at least ${least}, got ${n}`, { place: `MetricSet: ${place}` });
    };
    options.ks?.forEach((k, i) => { whole(`ks[${i}]`, k, 1); });
    whole('replicates', options.replicates ?? 100, 0);
    this.ks = [...(options.ks ?? [1, 5, 10])];
    this.replicates = options.replicates ?? 100;
    this.seed = options.seed ?? 1;
  }

  /** Labelled impressions so far. */
  get samples(): number {
    return this.#size;
  }

  /**
   * Adds R requests of C candidates in all.
   * @param userKeys [R] the user of each request.
   * @param probabilities [C] predictions in [0, 1].
   * @param labels [C] 0 or 1; NaN is no label and leaves the candidate out.
   * @param requestOffsets [R+1] first candidate of each request, ascending, first 0, last C.
   * @throws LongerError ERR_DATA for lengths that differ, a probability outside [0, 1] or another label.
   */
  add(userKeys: readonly string[], probabilities: ArrayLike<number>, labels: ArrayLike<number>, requestOffsets: ArrayLike<number>): void {
    const requests = userKeys.length;
    const count = probabilities.length;
    if (labels.length !== count || requestOffsets.length !== requests + 1 || requestOffsets[0] !== 0 || requestOffsets[requests] !== count)
      throw new LongerError('ERR_DATA', `lengths differ: ${requests} users, ${requestOffsets.length} offsets ending at ` +
        `${requestOffsets[requestOffsets.length - 1]}, ${count} probabilities, ${labels.length} labels`);
    for (let i = 0; i < count; i++) {
      if (!(probabilities[i]! >= 0 && probabilities[i]! <= 1))
        throw new LongerError('ERR_DATA', `a probability lies in [0, 1], got ${probabilities[i]}`, { place: `candidate ${i}` });
      if (labels[i] !== 0 && labels[i] !== 1 && !Number.isNaN(labels[i]))
        throw new LongerError('ERR_DATA', `a label is 0, 1 or NaN (none), got ${labels[i]}`, { place: `candidate ${i}` });
    }
    this.#reserve(this.#size + count);
    for (let r = 0; r < requests; r++) {
      const begin = this.#size;
      const user = this.#userIndex(userKeys[r]!);
      for (let i = requestOffsets[r]!; i < requestOffsets[r + 1]!; i++) {
        if (Number.isNaN(labels[i])) continue;
        this.#scores[this.#size] = probabilities[i]!;
        this.#labels[this.#size] = labels[i]!;
        this.#userOf[this.#size++] = user;
      }
      const ranking = rankingAtK(this.#scores.subarray(begin, this.#size), this.#labels.subarray(begin, this.#size), this.ks);
      if (ranking === null) continue;
      const sums = this.#ranking[user]!;
      ranking.forEach(({ hit, ndcg }, at) => {
        [hit, ndcg].forEach((value, i) => {
          if (Number.isNaN(value)) return;
          const to = at * rankingColumns.length + 2 * i;
          sums[to]! += value;
          sums[to + 1]!++;
        });
      });
    }
  }

  /** Exact values over everything added so far; more may be added after. O(n) a bootstrap replicate. */
  result(): MetricResult {
    const n = this.#size;
    const users = this.#users.size;
    const scores = this.#scores.subarray(0, n);
    const labels = this.#labels.subarray(0, n);
    const userOf = this.#userOf.subarray(0, n);
    const order = sortedOrder(scores);
    const table = this.#userTable(scores, labels, userOf, order);
    const once = new Float64Array(users).fill(1);
    const values = this.#combine(table, once, areaUnderCurve(scores, labels, order));
    let bothClasses = 0;
    for (let u = 0; u < users; u++) if (table.gaucWeight[u]! > 0) bothClasses++;
    return {
      samples: n,
      positives: sum(table.positives, once),
      users,
      usersWithBothClasses: bothClasses,
      rankedRequests: Object.fromEntries(this.ks.flatMap((k, at) => {
        const { hitRequests, gainRequests } = this.#ranked(at, once);
        return [[`hr@${k}`, hitRequests], [`ndcg@${k}`, gainRequests]];
      })),
      values,
      intervals: this.replicates > 0 && n > 0 ? this.#bootstrap(table, scores, labels, userOf, order) : {},
    };
  }

  #bootstrap(table: UserTable, scores: Float32Array, labels: Uint8Array, userOf: Int32Array, order: Uint32Array) {
    const users = this.#users.size;
    const n = order.length;
    // The samples laid out by rank, so that a replicate reads memory in order; `group` changes where the score does.
    const owner = new Int32Array(n);
    const positive = new Uint8Array(n);
    const starts = new Uint8Array(n);
    for (let i = 0; i < n; i++) {
      const index = order[i]!;
      owner[i] = userOf[index]!;
      positive[i] = labels[index]!;
      starts[i] = i === 0 || scores[index] !== scores[order[i - 1]!] ? 1 : 0;
    }
    const random = mulberry32(this.seed);
    const drawn = new Float64Array(users);
    const samples = new Map<MetricName, number[]>();
    for (let replicate = 0; replicate < this.replicates; replicate++) {
      drawn.fill(0);
      for (let u = 0; u < users; u++) drawn[Math.floor(random() * users)]!++;
      const values = this.#combine(table, drawn, replicateAuc(owner, positive, starts, drawn));
      for (const [name, value] of Object.entries(values) as [MetricName, number][]) {
        if (!samples.has(name)) samples.set(name, []);
        if (!Number.isNaN(value)) samples.get(name)!.push(value);
      }
    }
    const intervals: Partial<Record<MetricName, readonly [number, number]>> = {};
    for (const [name, list] of samples) {
      if (list.length === 0) continue;
      list.sort((a, b) => a - b);
      intervals[name] = [quantile(list, 0.025), quantile(list, 0.975)];
    }
    return intervals;
  }

  #userTable(scores: Float32Array, labels: Uint8Array, userOf: Int32Array, order: Uint32Array): UserTable {
    const users = this.#users.size;
    const n = order.length;
    const table = Object.fromEntries(userColumns.map((c) => [c, new Float64Array(users)])) as Record<(typeof userColumns)[number], Float64Array>;
    for (let i = 0; i < n; i++) {
      const u = userOf[i]!;
      table.samples[u]!++;
      table.positives[u]! += labels[i]!;
      table.loss[u]! += crossEntropy(scores[i]!, labels[i] === 1);
      table.probability[u]! += scores[i]!;
    }
    // A stable distribution of the global order by user leaves each user's samples sorted by score.
    const starts = new Uint32Array(users + 1);
    for (let u = 0; u < users; u++) starts[u + 1] = starts[u]! + table.samples[u]!;
    const next = starts.slice();
    const byUser = new Uint32Array(n);
    for (let i = 0; i < n; i++) byUser[next[userOf[order[i]!]!]!++] = order[i]!;
    for (let u = 0; u < users; u++) {
      const auc = areaUnderCurve(scores, labels, byUser.subarray(starts[u], starts[u + 1]));
      if (Number.isNaN(auc)) continue;
      table.gaucWeight[u] = table.samples[u]!;
      table.gauc[u] = auc * table.samples[u]!;
    }
    return table;
  }

  #combine(table: UserTable, weights: Float64Array, auc: number): Partial<Record<MetricName, number>> {
    const samples = sum(table.samples, weights);
    const baseRate = sum(table.positives, weights) / samples;
    const logLoss = sum(table.loss, weights) / samples;
    const entropy = binaryEntropy(baseRate);
    const values: Partial<Record<MetricName, number>> = {
      auc,
      gauc: sum(table.gauc, weights) / sum(table.gaucWeight, weights),
      logLoss,
      ne: entropy > 0 ? logLoss / entropy : NaN,
      calibration: baseRate > 0 ? sum(table.probability, weights) / samples / baseRate : NaN,
      baseRate,
    };
    this.ks.forEach((k, at) => {
      const { hits, hitRequests, gains, gainRequests } = this.#ranked(at, weights);
      values[`hr@${k}`] = hits / hitRequests;
      values[`ndcg@${k}`] = gains / gainRequests;
    });
    return values;
  }

  /** Weighted sums of the users' `rankingColumns` for one cut-off. */
  #ranked(at: number, weights: Float64Array): Record<(typeof rankingColumns)[number], number> {
    let [hits, hitRequests, gains, gainRequests] = [0, 0, 0, 0];
    for (let u = 0, from = at * rankingColumns.length; u < weights.length; u++) {
      const [w, sums] = [weights[u]!, this.#ranking[u]!];
      hits += w * sums[from]!;
      hitRequests += w * sums[from + 1]!;
      gains += w * sums[from + 2]!;
      gainRequests += w * sums[from + 3]!;
    }
    return { hits, hitRequests, gains, gainRequests };
  }

  #userIndex(key: string): number {
    let index = this.#users.get(key);
    if (index === undefined) {
      index = this.#users.size;
      this.#users.set(key, index);
      this.#ranking.push(new Float64Array(rankingColumns.length * this.ks.length));
    }
    return index;
  }

  #reserve(size: number): void {
    if (size <= this.#scores.length) return;
    const capacity = Math.max(size, this.#scores.length * 2);
    const scores = new Float32Array(capacity);
    const labels = new Uint8Array(capacity);
    const userOf = new Int32Array(capacity);
    scores.set(this.#scores);
    labels.set(this.#labels);
    userOf.set(this.#userOf);
    this.#scores = scores;
    this.#labels = labels;
    this.#userOf = userOf;
  }
}

type UserTable = Readonly<Record<(typeof userColumns)[number], Float64Array>>;

function sum(column: Float64Array, weights: Float64Array): number {
  let total = 0;
  for (let u = 0; u < column.length; u++) total += column[u]! * weights[u]!;
  return total;
}

/** `areaUnderCurve` with each sample repeated as often as its user was drawn. */
function replicateAuc(owner: Int32Array, positive: Uint8Array, starts: Uint8Array, drawn: Float64Array): number {
  let above = 0;
  let negatives = 0;
  let positives = 0;
  let tiedPositives = 0;
  let tiedNegatives = 0;
  for (let i = 0; i < owner.length; i++) {
    if (starts[i] === 1) {
      above += tiedPositives * (negatives + tiedNegatives / 2);
      negatives += tiedNegatives;
      positives += tiedPositives;
      tiedPositives = tiedNegatives = 0;
    }
    const w = drawn[owner[i]!]!;
    const p = positive[i]!;
    tiedPositives += w * p;
    tiedNegatives += w * (1 - p);
  }
  above += tiedPositives * (negatives + tiedNegatives / 2);
  negatives += tiedNegatives;
  positives += tiedPositives;
  return positives > 0 && negatives > 0 ? above / (positives * negatives) : NaN;
}

/** Linear interpolation between the order statistics of an ascending list. */
function quantile(sorted: readonly number[], q: number): number {
  const at = q * (sorted.length - 1);
  const low = Math.floor(at);
  const high = Math.min(sorted.length - 1, low + 1);
  return sorted[low]! + (sorted[high]! - sorted[low]!) * (at - low);
}

/** Small seeded generator of numbers in [0, 1). */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
  };
}
