/** One of several that do comparable work in turn. */
export interface Contestant {
  readonly name: string;
  /** Does the work once. May return the seconds that it took itself, e.g. measured by another process. */
  readonly run: () => Promise<number | void>;
  /** Milliseconds of rest after it, for threads of others that spin on. Default 0. */
  readonly rest?: number;
}

export interface RaceResult {
  /** Median seconds of one run, by name. */
  readonly seconds: ReadonlyMap<string, number>;
  /** Rounds that were counted. */
  readonly rounds: number;
  /** Median over the rounds of (time of `a` / time of `b`). */
  ratio(a: string, b: string): number;
}

/**
 * Runs all contestants in turn, round after round, for about `seconds` and at least three rounds after one that does not
 * count. What slows the machine for a while slows them all, and ratios are taken within a round.
 */
export async function race(contestants: readonly Contestant[], seconds: number): Promise<RaceResult> {
  const times = new Map<string, number[]>(contestants.map((c) => [c.name, []]));
  const start = performance.now();
  let rounds = -1;
  while (rounds < 3 || performance.now() - start < 1000 * seconds) {
    for (const c of contestants) {
      const from = performance.now();
      const own = await c.run();
      const taken = own ?? (performance.now() - from) / 1000;
      if (rounds >= 0) times.get(c.name)!.push(taken);
      if (c.rest !== undefined) await new Promise((resolve) => setTimeout(resolve, c.rest));
    }
    rounds++;
  }
  const of = (name: string): number[] => {
    const list = times.get(name);
    if (!list) throw new Error(`nobody of the name '${name}' took part`);
    return list;
  };
  return {
    seconds: new Map([...times].map(([name, list]) => [name, median(list)])),
    rounds,
    ratio: (a, b) => median(of(a).map((t, i) => t / of(b)[i]!)),
  };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length === 0 ? NaN : sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Median seconds of one run of work that is repeated for about `seconds`. */
export async function time(run: () => Promise<number | void>, seconds: number): Promise<number> {
  return (await race([{ name: 'it', run }], seconds)).seconds.get('it')!;
}
