import { randomUUID } from 'node:crypto';
import { LongerError } from '../errors.ts';
import type { Schema } from '../schema/schema.ts';
import type { HistoryStore, StoredHistory } from './history_store.ts';
import { exactJson } from './json.ts';
import { Recent } from './recent.ts';
import { checkLimit, checkOrder, eventCheck, type StoredEvent } from './stored_events.ts';

export interface RedisHistoryOptions {
  /** `redis://[[user][:password]@]host[:port][/database]`. */
  readonly url: string;
  /** In front of every key. Default `longer:`. */
  readonly prefix?: string;
  /** Newest events of a user that are kept. Default 10,000. */
  readonly maxEvents?: number;
  /** Seconds after the last write at which Redis forgets a user; default: never. */
  readonly ttl?: number;
  /** Milliseconds for Redis to answer. Default 500. */
  readonly timeout?: number;
  /** Who notes which users were ranked last. Replicas that each have their own users have names of their own, which a restart keeps. Default '': all share one note. */
  readonly replica?: string;
  /** Users that the note holds. Default 10,000. */
  readonly maxRanked?: number;
}

/** What is used of a client of the package `redis`. */
interface Client {
  connect(): Promise<unknown>;
  on(event: 'error', listener: (error: Error) => void): unknown;
  sendCommand(args: readonly string[]): Promise<unknown>;
  multi(): Multi;
  destroy(): void;
}

interface Multi {
  addCommand(args: readonly string[]): Multi;
  exec(): Promise<unknown[]>;
}

/**
 * Writes a history as one step: KEYS events list and facts; ARGV keep, ttl, version, 1 to begin anew, time of the first new event or '', events.
 * The version is another with every write. Returns the events now, or the last event where the new ones lie before it.
 */
const write = `
local first = tonumber(ARGV[5])
if ARGV[4] == '1' then redis.call('DEL', KEYS[1], KEYS[2])
elseif first then
  local last = redis.call('LINDEX', KEYS[1], -1)
  if last and first < cjson.decode(last)['time'] then return last end
end
for i = 6, #ARGV, 1000 do redis.call('RPUSH', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
local more = redis.call('LLEN', KEYS[1]) - tonumber(ARGV[1])
if more > 0 then
  redis.call('LTRIM', KEYS[1], more, -1)
  redis.call('HINCRBY', KEYS[2], 'dropped', more)
end
redis.call('HSET', KEYS[2], 'version', ARGV[3])
if ARGV[2] ~= '' then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  redis.call('EXPIRE', KEYS[2], ARGV[2])
end
return redis.call('LLEN', KEYS[1])`;

/** Histories in Redis: replicas share them and they outlive the process. Needs the package `redis`. */
export class RedisHistoryStore implements HistoryStore, Disposable {
  readonly #client: Client;
  readonly #check: (events: readonly StoredEvent[]) => readonly StoredEvent[];
  readonly #time: boolean;
  /** Seconds that the last note gave to its last user. */
  #noted = 0;
  readonly #options: Required<Omit<RedisHistoryOptions, 'url' | 'ttl'>> & { readonly ttl: number | undefined };
  /** What was read, by user; a version that Redis still has needs no second reading. */
  readonly #read = new Recent<{ readonly version: string; readonly stored: StoredHistory }>(2 ** 20);

  private constructor(client: Client, schema: Schema, { prefix = 'longer:', maxEvents = 10_000, timeout = 500, ttl, replica = '', maxRanked = 10_000 }: RedisHistoryOptions) {
    this.#client = client;
    this.#check = eventCheck(schema);
    this.#time = schema.time;
    this.#options = { prefix, maxEvents, timeout, ttl, replica, maxRanked };
  }

  /** @throws LongerError ERR_UNAVAILABLE where Redis does not answer, ERR_CONFIG where the package `redis` is not installed or an option is wrong */
  static async connect(schema: Schema, options: RedisHistoryOptions): Promise<RedisHistoryStore> {
    const { maxEvents = 10_000, maxRanked = 10_000, ttl = Infinity, timeout = 500 } = options;
    checkLimit('maxEvents', maxEvents);
    checkLimit('maxRanked', maxRanked);
    for (const [place, value] of Object.entries({ ttl, timeout })) if (!(value > 0)) throw new LongerError('ERR_CONFIG', `expected a number above 0, got ${value}`, { place });
    let redis: { createClient(options: object): unknown };
    try {
      redis = (await import('redis')) as never;
    } catch (cause) {
      throw new LongerError('ERR_CONFIG', 'histories in Redis need the package redis', { place: 'histories', remedy: 'npm install redis', cause });
    }
    // A command while the connection is down fails at once: the caller may go on without; it comes back by itself.
    let client: Client;
    try {
      new URL(options.url); // none would be Redis at localhost
      client = redis.createClient({ url: options.url, disableOfflineQueue: true, socket: { connectTimeout: timeout, reconnectStrategy: (tries: number) => Math.min(1000, 20 * 2 ** Math.min(tries, 6)) } }) as Client;
    } catch {
      // Neither the URL nor the error that holds it: there may be a password in it.
      throw new LongerError('ERR_CONFIG', 'this is no URL of Redis', { place: 'histories', remedy: 'Expected redis://[[user][:password]@]host[:port][/database], or rediss://' });
    }
    let last: Error | undefined;
    client.on('error', (error) => { last = error; }); // each command says it; the first connection is tried again until its time is over
    const store = new RedisHistoryStore(client, schema, options);
    try {
      await store.#within(client.connect());
    } catch (error) {
      client.destroy();
      throw new LongerError('ERR_UNAVAILABLE', `Redis: ${(last ?? ((error as Error).cause as Error)).message}`, { place: 'histories', remedy: 'Is Redis running there, and does it let this process in?', cause: error });
    }
    return store;
  }

  async read(user: string): Promise<StoredHistory> {
    const [events, facts] = this.#keys(user);
    const known = this.#read.get(user);
    if (known && (await this.#within(this.#client.sendCommand(['HGET', facts, 'version']))) === known.version) return known.stored;
    const [list, [version, dropped]] = (await this.#within(this.#client.multi().addCommand(['LRANGE', events, '0', '-1']).addCommand(['HMGET', facts, 'version', 'dropped']).exec())) as [string[], [string | null, string | null]];
    const stored = { events: list.map((text) => JSON.parse(text) as StoredEvent), dropped: Number(dropped ?? 0) };
    if (version !== null) this.#read.set(user, { version, stored }, list.length);
    return stored;
  }

  append(user: string, events: readonly StoredEvent[]): Promise<number> {
    return this.#write(user, events, false);
  }

  replace(user: string, events: readonly StoredEvent[]): Promise<number> {
    return this.#write(user, events, true);
  }

  async delete(user: string): Promise<boolean> {
    this.#read.delete(user);
    await this.#within(this.#client.sendCommand(['ZREM', this.#note, user]));
    return Number(await this.#within(this.#client.sendCommand(['DEL', ...this.#keys(user)]))) > 0;
  }

  async ranked(users: readonly string[]): Promise<void> {
    const { maxRanked, ttl } = this.#options;
    const now = Date.now() / 1000;
    const last = users.slice(-maxRanked);
    if (last.length === 0) return;
    const from = Math.max(now, this.#noted + 1e-6); // two notes of one millisecond are in order too
    this.#noted = from + (last.length - 1) / 1e6;
    const noted = last.flatMap((user, i) => [String(from + i / 1e6), user]);
    const step = this.#client.multi().addCommand(['ZADD', this.#note, ...noted]).addCommand(['ZREMRANGEBYRANK', this.#note, '0', String(-maxRanked - 1)]);
    await this.#within((ttl === undefined ? step : step.addCommand(['ZREMRANGEBYSCORE', this.#note, '-inf', String(now - ttl)])).exec());
  }

  async rankedLast(): Promise<readonly string[]> {
    return (await this.#within(this.#client.sendCommand(['ZREVRANGE', this.#note, '0', '-1']))) as string[];
  }

  [Symbol.dispose](): void {
    this.#client.destroy();
  }

  async #write(user: string, given: readonly StoredEvent[], anew: boolean): Promise<number> {
    const events = this.#check(given);
    const { maxEvents, ttl } = this.#options;
    const first = this.#time && events.length > 0 ? String(events[0]!['time']) : '';
    const reply = await this.#within(this.#client.sendCommand([
      'EVAL', write, '2', ...this.#keys(user), String(maxEvents), ttl === undefined ? '' : String(Math.ceil(ttl)), randomUUID(), anew ? '1' : '0', first, ...events.map((e) => exactJson(e)),
    ]));
    if (typeof reply === 'string') checkOrder(JSON.parse(reply) as StoredEvent, events[0]);
    return Number(reply);
  }

  /** Users by the time at which they were ranked last. */
  get #note(): string {
    return `${this.#options.prefix}ranked:${this.#options.replica}`;
  }

  /** Of one user, in one slot of a cluster. */
  #keys(user: string): [events: string, facts: string] {
    const key = `${this.#options.prefix}{${user}}`;
    return [`${key}:events`, `${key}:facts`];
  }

  async #within<T>(answer: Promise<T>): Promise<T> {
    const { timeout } = this.#options;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => { reject(new Error(`no answer within ${timeout} ms`)); }, timeout);
    });
    try {
      return await Promise.race([answer, late]);
    } catch (cause) {
      answer.catch(() => undefined);
      throw new LongerError('ERR_UNAVAILABLE', `Redis: ${(cause as Error).message}`, { place: 'histories', remedy: 'Try again, or give the history with the request', cause });
    } finally {
      clearTimeout(timer);
    }
  }
}
