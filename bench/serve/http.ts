import type { BenchRecord } from '../record.ts';
import { type Answer, load, type Load, quantile, times } from './load.ts';
import { Server } from './server.ts';
import type { Subject } from './subject.ts';
import { Traffic } from './traffic.ts';

export interface HttpOptions {
  /** Seconds of each load. */
  readonly seconds: number;
  /** Seconds of the load at 70 % of capacity. */
  readonly steady: number;
  /** Users with a stored history. */
  readonly users: number;
  readonly candidates: number;
  /** Calls of a user at one time: the first finds no cache, the others do. */
  readonly visit: number;
  readonly cacheMb: number;
}

/** Enough to keep batches full; with many more, calls are refused and at once sent again. */
const connections = 16;
const ok = (status: number): boolean => status === 200;

/** The users and what they ask: stored histories, candidates at random, visits of some calls at one time. */
class Visitors {
  readonly #server: Server;
  readonly #options: HttpOptions;
  readonly #users: string[] = [];
  readonly #traffic: Traffic;
  readonly #candidates: string[];
  #calls = 0;

  constructor(subject: Subject, server: Server, options: HttpOptions) {
    this.#server = server;
    this.#options = options;
    this.#traffic = new Traffic(subject.ranker.model.schema);
    this.#candidates = Array.from({ length: 16 }, (_, i) => JSON.stringify(this.#traffic.candidates(i, options.candidates)));
  }

  async store(events: number): Promise<void> {
    for (let u = 0; u < this.#options.users; ++u) {
      const { history, ...rest } = this.#traffic.user(u, events);
      await this.#server.send('PUT', `/v1/histories/u${u}`, { events: history });
      this.#users.push(JSON.stringify({ ...rest, userId: `u${u}` }).slice(1, -1));
    }
  }

  /** The next call, of the next user. Each round of the users finds an equal share of them at the first call of a visit. */
  readonly body = (): string => {
    const { users, visit } = this.#options;
    const call = this.#calls++;
    const round = Math.floor(call / users);
    const user = call % users;
    return `{${this.#users[user]!},"time":${this.#traffic.now + Math.floor((round + user) / visit)},"topK":10,"candidates":${this.#candidates[(round + call) % 16]!}}`;
  };
}

/** Goodput a second between two moments. */
const rateOf = (answers: readonly Answer[], from: number, to: number): number => answers.filter((a) => ok(a.status) && a.at >= from && a.at < to).length / (to - from);

/** What came of the calls that were not served. */
function unserved({ answers, errors }: Load): { readonly count: number; readonly note: string } {
  const of = (status: number): number => answers.filter((a) => a.status === status).length;
  return { count: errors + answers.filter((a) => !ok(a.status)).length, note: `${of(503)} refused, ${of(504)} late, ${errors} broken of ${answers.length}` };
}

export async function* httpFigures(subject: Subject, options: HttpOptions): AsyncIterable<BenchRecord> {
  const { threads, directory, root, events } = subject;
  await using server = await Server.start(['--model', directory, '--threads', String(threads), '--cache-mb', String(options.cacheMb), ...(root === undefined ? [] : ['--models', root])]);
  const visitors = new Visitors(subject, server, options);
  await visitors.store(events);
  const run = (seconds: number, rate?: number): Promise<Load> =>
    load({ url: server.url, path: '/v1/rank', seconds, body: visitors.body, ...(rate === undefined ? { connections } : { connections: Math.round(rate), paced: true }) });
  const record = { bench: 'http', ...subject.record } as const;
  await run(Math.min(5, options.seconds));

  const closed = await run(options.seconds);
  const capacity = rateOf(closed.answers, 0, closed.seconds);
  const share = await server.metric('longer_cache_hits_total') / (await server.metric('longer_calls_total'));
  yield { ...record, name: `capacity, ${connections} connections`, value: capacity, unit: 'requests/s', note: `C=${options.candidates}, ${options.users} users, ${(100 * share).toFixed(0)} % of calls find a cache; ${unserved(closed).note}` };

  const before = server.rss;
  const steady = await run(options.steady, 0.7 * capacity);
  // Latencies here and at twice the capacity: in the first second the load generator opens its connections, on the same CPUs.
  const good = times(steady.answers.filter((a) => a.at >= 1), ok);
  const [p50, p99] = [quantile(good, 0.5), quantile(good, 0.99)];
  const bad = unserved(steady);
  const at = '70 % of capacity';
  yield { ...record, name: `${at}, p99`, value: p99, unit: 'ms', against: { name: 'p50, ms', value: p50 }, ratio: p99 / p50, bar: { is: '<=', value: 3 }, note: `${(good.length / (steady.seconds - 1)).toFixed(0)} requests/s, from the first second on` };
  yield { ...record, name: `${at}, errors`, value: bad.count, unit: 'calls', bar: { is: '<=', value: 0 }, note: bad.note };
  yield { ...record, name: `${at}, RSS after to before`, value: server.rss, unit: 'MiB', against: { name: 'before, MiB', value: before }, ratio: server.rss / before, bar: { is: '<=', value: 1.05 } };
  yield { ...record, name: `${at}, event loop delay, p99`, value: Math.max(0, 1000 * (await server.metric('nodejs_eventloop_lag_p99_seconds')) - 10), unit: 'ms', bar: { is: '<=', value: 5 }, note: 'of a 10 ms timer, since the last look at the metrics' };

  const overload = await run(options.seconds, 2 * capacity);
  const refused = times(overload.answers.filter((a) => a.at >= 1), (s) => s === 503);
  const goodput = rateOf(overload.answers, 1, overload.seconds);
  yield { ...record, name: 'twice the capacity offered, goodput', value: goodput, unit: 'requests/s', against: { name: 'capacity', value: capacity }, ratio: goodput / capacity, bar: { is: '>=', value: 0.9 },
    note: unserved(overload).note };
  yield { ...record, name: 'twice the capacity offered, a refusal, p99', value: quantile(refused, 0.99), unit: 'ms', bar: { is: '<=', value: 10 }, note: `p50 ${quantile(refused, 0.5).toFixed(1)} ms; at the client, on the same CPUs` };
  const after = await run(3, 0.5 * capacity);
  const lastBad = Math.max(0, ...after.answers.filter((a) => !ok(a.status) || a.milliseconds > 10 * p50).map((a) => a.at));
  yield { ...record, name: 'recovery after it', value: lastBad, unit: 's', bar: { is: '<=', value: 1 }, note: 'until no answer fails or takes over ten times the median at 70 %' };

  if (root === undefined) return;
  const swapping = run(options.seconds, 0.5 * capacity);
  let swaps = 0; // each empties the cache, so a second apart: else this would be a load without caches
  const swapped = (async () => {
    const until = performance.now() + 1000 * (options.seconds - 1);
    while (performance.now() < until) {
      await server.send('POST', '/v1/models', { name: swaps++ % 2 === 0 ? 'b' : 'a' });
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  })();
  const under = await swapping;
  await swapped;
  const slow = times(under.answers, ok);
  const failed = unserved(under);
  yield { ...record, name: `model swapped ${swaps} times under load, failed`, value: failed.count, unit: 'calls', bar: { is: '<=', value: 0 }, note: `${failed.note}; p99 ${quantile(slow, 0.99).toFixed(1)} ms, longest ${quantile(slow, 1).toFixed(0)} ms` };
}
