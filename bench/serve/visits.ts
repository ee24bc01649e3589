import { Random } from '../../lib/data/random.ts';

/** One look of a user at a page: calls of one time, one after another, and what the user then does there. */
export interface Page {
  readonly user: number;
  /** Seconds from the start of the week. */
  readonly time: number;
  /** Lists of candidates that the page asks to be ranked. */
  readonly calls: number;
  /** Items of the events that follow, seconds apart. */
  readonly items: readonly number[];
}

export interface Week {
  /** In order of time. */
  readonly pages: readonly Page[];
  /** Events that each user has at its start. */
  readonly lengths: readonly number[];
}

const day = 86_400;
/** Hours at which most come, and their shares. */
const peaks = [[8, 0.25], [13, 0.25], [20.5, 0.5]] as const;

/**
 * A week of visits: each user comes by a habit of the day, give or take an hour and a half, some many times a day and most less than once; a visit is one to
 * six pages, a minute apart; items are popular by a power law. The same seed gives the same week.
 */
export function week(users: number, items: number, seed: number): Week {
  const random = new Random(seed, 41);
  const pages: Page[] = [];
  const lengths: number[] = [];
  const item = (): number => Math.floor(items * random.uniform() ** 3);
  for (let user = 0; user < users; ++user) {
    lengths.push(Math.min(1500, Math.floor(Math.exp(5 + 1.2 * random.normal()))));
    const rate = Math.min(8, 0.5 * Math.exp(1.1 * random.normal())); // visits a day
    let from = random.uniform();
    const [habit] = peaks.find(([, share]) => (from -= share) < 0) ?? peaks[2];
    for (let d = 0; d < 7; ++d) {
      const weekend = d >= 5 ? 1.3 : 1;
      for (let left = rate * weekend; left > 0; --left) {
        if (random.uniform() >= left) break;
        const hour = (habit + 1.5 * random.normal() + (random.uniform() < 0.3 ? 24 * random.uniform() : 0) + 24) % 24;
        let time = day * d + 3600 * hour;
        for (let n = 1 + random.below(6); n > 0; --n, time += 30 + random.below(90))
          pages.push({ user, time, calls: 1 + random.below(3), items: Array.from({ length: random.below(4) }, item) });
      }
    }
  }
  return { pages: pages.sort((a, b) => a.time - b.time), lengths };
}
