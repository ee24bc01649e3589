import { id } from '../schema/features.ts';
import { defineSchema, type RequestOf } from '../schema/schema.ts';
import { areaUnderCurve, sortedOrder } from '../train/metrics.ts';
import { Random } from './random.ts';

/**
 * A made world in which the click probability is known, so that the best possible AUC is. The log-odds of a click are
 *
 *   bias + popularity(item) + long * L + short * S + pair * P
 *
 * where, over the events of the history and with w = 2^(-age / half-life) for an event's weight,
 * - L: share of the candidate's category among all events, half-life 120 days (long-range interest, slow decay);
 * - S: share of the category among the events of the last two days' weight (short-range interest, half-life 1 day);
 * - P: share of the category among events that directly follow a `search` event (a meaning that only two adjacent events
 *   together have; a search's own category says nothing), half-life 60 days.
 * Shares are centred by their mean 1 / categories and scaled; every term can be seen in history, times and candidate.
 */
export interface WorldOptions {
  readonly seed: number;
  readonly items: number;
  readonly categories: number;
  readonly users: number;
  /** Longest history; lengths are spread between a quarter of it and all of it. */
  readonly historyLength: number;
  readonly requests: number;
  /** Candidates a request. */
  readonly candidates: number;
}

export const worldDefaults: WorldOptions = { seed: 1, items: 600, categories: 20, users: 1000, historyLength: 200, requests: 4000, candidates: 8 };

export const actions = ['view', 'like', 'search'] as const;
const search = 2;
const day = 86_400;
const strength = { bias: -0.9, popularity: 0.5, long: 7, short: 2.5, pair: 3.5 } as const;

export function worldSchema(options: Pick<WorldOptions, 'items' | 'categories' | 'users'>) {
  return defineSchema({
    tables: { item: { size: options.items, width: 16 }, category: { size: options.categories, width: 8 } },
    user: { user_id: id(options.users, 8) },
    event: { item: id('item'), category: id('category'), action: id(actions.length, 4) },
    candidate: { item: id('item'), category: id('category') },
    labels: { click: {} },
    time: true,
  });
}

export type WorldRequest = RequestOf<ReturnType<typeof worldSchema>['spec']>;

export interface WorldSample {
  readonly request: WorldRequest;
  /** True click probability of each candidate. */
  readonly probabilities: Float64Array;
}

/** Requests one after another: the same options give the same world. */
export function* makeWorld(options: WorldOptions): Generator<WorldSample> {
  const { items, categories, users } = options;
  const make = new Random(options.seed, 1);
  const categoryOf = Int32Array.from({ length: items }, (_, i) => (i < categories ? i : make.below(categories)));
  const popularity = Float64Array.from({ length: items }, () => make.normal());
  const ofCategory: number[][] = Array.from({ length: categories }, () => []);
  categoryOf.forEach((c, i) => ofCategory[c]!.push(i));
  const favourites = Array.from({ length: users }, () => Array.from({ length: 3 }, () => make.below(categories)));

  for (let r = 0; r < options.requests; ++r) {
    const rng = new Random(options.seed, 1000 + r);
    const user = rng.below(users);
    const length = Math.max(1, Math.round(options.historyLength * (0.25 + 0.75 * rng.uniform())));
    const now = 1_700_000_000 + rng.below(30 * day);
    const item = new Int32Array(length);
    const category = new Int32Array(length);
    const action = new Int32Array(length);
    const time = new Float64Array(length);
    let mood = rng.below(categories);
    let age = 0;
    // Written from the newest to the oldest: gaps of hours, now and then of days.
    for (let i = length - 1; i >= 0; --i) {
      age += Math.floor(rng.uniform() < 0.15 ? day * (0.5 + rng.uniform()) : 600 + 7200 * rng.uniform());
      if (rng.uniform() < 0.08) mood = rng.below(categories);
      const u = rng.uniform();
      const c = u < 0.35 ? favourites[user]![rng.below(3)]! : u < 0.75 ? mood : rng.below(categories);
      category[i] = c;
      item[i] = ofCategory[c]![rng.below(ofCategory[c]!.length)]!;
      action[i] = rng.uniform() < 0.25 ? search : rng.below(2);
      time[i] = now - age;
    }
    const interest = interests(category, action, time, now, categories);
    const candidates = new Int32Array(options.candidates);
    const candidateCategory = new Int32Array(options.candidates);
    const probabilities = new Float64Array(options.candidates);
    const click = new Int32Array(options.candidates);
    for (let c = 0; c < options.candidates; ++c) {
      // Half of the candidates come from what the history holds, so that interests matter.
      const chosen = rng.uniform() < 0.5 ? item[rng.below(length)]! : rng.below(items);
      const k = categoryOf[chosen]!;
      const logit = strength.bias + strength.popularity * popularity[chosen]! + interest[k]!;
      candidates[c] = chosen;
      candidateCategory[c] = k;
      probabilities[c] = 1 / (1 + Math.exp(-logit));
      click[c] = rng.uniform() < probabilities[c]! ? 1 : 0;
    }
    yield {
      request: {
        id: `r${r}`,
        user: { user_id: user },
        time: now,
        history: { item, category, action, time },
        candidates: { item: candidates, category: candidateCategory },
        labels: { click },
      },
      probabilities,
    };
  }
}

/** What the history adds to the log-odds of each category. */
function interests(category: Int32Array, action: Int32Array, time: Float64Array, now: number, categories: number): Float64Array {
  const sums = (halfLife: number, counts: (i: number) => boolean): Float64Array => {
    const share = new Float64Array(categories);
    let total = 1e-12;
    for (let i = 0; i < category.length; ++i) {
      if (!counts(i)) continue;
      const w = 2 ** (-(now - time[i]!) / (halfLife * day));
      share[category[i]!]! += w;
      total += w;
    }
    return share.map((s) => s / total);
  };
  const long = sums(120, () => true);
  const short = sums(1, () => true);
  const pair = sums(60, (i) => i > 0 && action[i - 1] === search);
  const mean = 1 / categories;
  return Float64Array.from({ length: categories }, (_, c) => strength.long * (long[c]! - mean) + strength.short * (short[c]! - mean) + strength.pair * (pair[c]! - mean));
}

/** AUC of the true probabilities against the clicks that they gave: no model can do better but by chance. */
export function bestAuc(samples: readonly WorldSample[]): number {
  const scores = Float32Array.from(samples.flatMap((s) => [...s.probabilities]));
  const labels = Uint8Array.from(samples.flatMap((s) => Array.from(s.request.labels!.click as Int32Array)));
  return areaUnderCurve(scores, labels, sortedOrder(scores));
}
