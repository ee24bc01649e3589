import { LongerError } from '../errors.ts';
import type { EncodedRequest } from '../schema/encode.ts';
import { cachedShare, readingShare } from './admission.ts';
import { type Call, closed, late, release } from './call.ts';
import { explained, type WantedExplanations } from './explained.ts';
import { pause } from './pause.ts';
import { Pace } from './pace.ts';
import type { RankServiceStats } from './rank_call.ts';
import type { RankServiceOptions } from './rank_options.ts';
import { outOfPages, type ServedModel } from './served_model.ts';
import type { Shadow } from './shadow.ts';
import { sliceCandidates } from './slices.ts';

/** What the queue of a service counts. */
export type QueueStats = Omit<RankServiceStats, 'swaps' | 'cache' | 'shadow'>;

/**
 * The calls that wait for their scores, and what works on them: batches of candidates whose caches are there, and histories that must be read, in turns. It is
 * bounded; a late or aborted call leaves it.
 */
export class CallQueue {
  readonly #options: RankServiceOptions;
  /** Has its turn when nobody waits. */
  readonly #shadow: Shadow;
  #waiting: Call[] = [];
  #waitingRows = 0;
  readonly #pace = new Pace();
  #running = false;
  /** When there was nothing to do last, in milliseconds. */
  #rested = performance.now();
  closed = false;
  /** The device has failed: no call of this process succeeds any more. */
  lost: LongerError | undefined;
  readonly #onLost: (error: LongerError) => void;
  #idle: (() => void)[] = [];
  #counts = { calls: 0, refused: 0, late: 0, aborted: 0, failed: 0, batches: 0, rows: 0, prefills: 0, appends: 0, plain: 0 };

  constructor(options: RankServiceOptions, shadow: Shadow, onLost: (error: LongerError) => void) {
    this.#options = options;
    this.#onLost = onLost;
    this.#shadow = shadow;
  }

  stats(): QueueStats {
    return { ...this.#counts, waitingCalls: this.#waiting.length, waitingRows: this.#waitingRows };
  }

  /** Takes no more calls. @returns when those that it has are finished */
  async close(): Promise<void> {
    this.closed = true;
    if (this.#running) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /**
   * A call whose wait would take too much of its time is refused while that is cheap.
   * @param left milliseconds to its deadline
   * @param share of them that its wait may take
   * @throws LongerError ERR_OVERLOADED
   */
  admit(rows: number, left: number, share = cachedShare): void {
    const { maxCalls, maxRows } = this.#options;
    const wait = this.#pace.of(this.#waiting);
    const full = this.#waiting.length >= maxCalls ? `${maxCalls} calls are waiting already`
      : this.#waitingRows > 0 && this.#waitingRows + rows > maxRows ? `${maxRows} candidates are waiting already`
        : wait > left * share ? `those that wait will take some ${Math.ceil(wait)} ms` : undefined;
    if (full === undefined) return;
    this.#counts.refused++;
    throw new LongerError('ERR_OVERLOADED', full, { remedy: 'Try again later, or spread the load over more processes' });
  }

  enqueue(model: ServedModel, request: EncodedRequest, owner: string, until: number, signal: AbortSignal | undefined, how: Pick<Call, 'plain' | 'explain'>): Promise<Call> {
    if (this.closed) throw closed();
    if (this.lost) throw this.lost;
    const now = performance.now();
    if (!this.#running) this.#rested = now;
    const left = until - now;
    if (left <= 0) {
      this.#counts.late++;
      throw late();
    }
    const leave = model.enter();
    const cache = model.pages.held(request, owner);
    try {
      this.admit(request.candidates, left, cache ? cachedShare : readingShare(owner, now, now - this.#rested));
    } catch (error) {
      cache?.release();
      leave();
      throw error;
    }
    this.#counts.calls++;
    return new Promise((resolve, reject) => {
      const logits = new Float32Array(request.candidates * model.ranker.model.schema.tasks.length);
      const call: Call = {
        model, request, owner, logits, cache, found: cache ? 'hit' : 'miss', ...how, explanations: undefined, done: 0, settled: false, busy: false, leave,
        settle: (error) => {
          if (call.settled) return;
          call.settled = true;
          clearTimeout(timer);
          signal?.removeEventListener('abort', abort);
          this.#waitingRows -= request.candidates - call.done;
          const at = this.#waiting.indexOf(call);
          if (at >= 0) this.#waiting.splice(at, 1);
          if (error === undefined) resolve(call);
          else reject(error as Error);
          if (error === undefined && Math.random() < this.#options.shadowShare) this.#shadow.offer(request, logits);
          if (!call.busy) release(call);
        },
      };
      const abort = (): void => {
        this.#counts.aborted++;
        call.settle(signal!.reason);
      };
      const timer = setTimeout(() => {
        this.#counts.late++;
        call.settle(late());
      }, Math.min(left, 2 ** 31 - 1));
      signal?.addEventListener('abort', abort, { once: true });
      this.#waiting.push(call);
      this.#waitingRows += request.candidates;
      if (!this.#running) void this.#run();
    });
  }

  async #run(): Promise<void> {
    this.#running = true;
    await pause(this.#options.window);
    for (;;) {
      if (this.#waiting.length > 0) await this.#turn();
      else if (this.#shadow.behind && !this.closed) await this.#shadow.step();
      else break;
    }
    this.#running = false;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  /**
   * A batch of candidates whose caches are there, then some of the histories that must be read: neither kind of work waits for more than one turn of the other,
   * and each is done in order of arrival, calls of one model together.
   */
  async #turn(): Promise<void> {
    const { rows, slice, events } = this.#options;
    const serving = this.#waiting.find((c) => c.cache)?.model;
    const ready = this.#waiting.filter((c) => c.cache && c.model === serving);
    if (ready.length > 0) {
      const taken: [Call, number][] = [];
      let room = rows;
      for (const call of ready) {
        const to = Math.min(call.request.candidates, call.done + (this.#waiting.length === 1 ? rows : slice));
        if (taken.length > 0 && to - call.done > room) break; // cut short it would wait a whole round for the rest
        taken.push([call, to]);
        room -= to - call.done;
      }
      const calls = taken.map(([call]) => call);
      await this.#work(calls, () => this.#score(serving!, taken));
      // Who has had a slice stands behind who has not.
      if (this.#waiting.length > 1) {
        const served = new Set(calls);
        this.#waiting = [...this.#waiting.filter((c) => !served.has(c)), ...this.#waiting.filter((c) => served.has(c))];
      }
    }
    const first = this.#waiting.find((c) => !c.cache);
    if (!first) return;
    const { model, plain } = first;
    const bare: Call[] = [];
    let [fresh, candidates] = [0, 0];
    for (const call of this.#waiting) {
      if (call.cache || call.model !== model || call.plain !== plain) continue;
      call.cache = model.pages.held(call.request, call.owner);
      if (call.cache) {
        call.found = 'hit'; // made meanwhile by another call
        continue;
      }
      fresh += call.request.events;
      candidates += call.request.candidates;
      if (bare.length > 0 && (fresh > events || (plain && candidates > rows))) break;
      bare.push(call);
    }
    if (bare.length > 0) await this.#work(bare, () => (plain ? this.#scoreOnce(model, bare) : this.#hold(model, bare)));
  }

  /** Runs what is done for calls that wait: until it ends, those that settle keep their model and cache. */
  async #work(calls: readonly Call[], run: () => Promise<void>): Promise<void> {
    for (const call of calls) call.busy = true;
    try {
      await run();
    } catch (error) {
      for (const call of calls) this.#fail(call, error);
    } finally {
      for (const call of calls) {
        call.busy = false;
        if (call.settled) release(call);
      }
    }
  }

  /** Until nobody waits: what may give way to calls, but not for ever. */
  async calm(): Promise<void> {
    const until = performance.now() + patience;
    for (let left = patience; this.#running && left > 0; left = until - performance.now())
      await new Promise<void>((resolve) => {
        this.#idle.push(resolve);
        setTimeout(resolve, left);
      });
  }

  /** Gives calls their caches. Where the pages in use leave no room for all, those that find none wait until others have let go of theirs. */
  async #hold(model: ServedModel, calls: readonly Call[]): Promise<void> {
    try {
      const from = performance.now();
      const held = await model.pages.hold(calls.map((c) => c.request), { owners: calls.map((c) => c.owner) });
      this.#pace.read(calls.filter((_, i) => held[i]!.outcome === 'miss'), performance.now() - from);
      calls.forEach((call, i) => {
        call.cache = held[i]!;
        call.found = found[held[i]!.outcome];
        if (call.found === 'miss') this.#counts.prefills++;
        else if (call.found === 'grown') this.#counts.appends++;
      });
    } catch (error) {
      if (!outOfPages(error)) throw error;
      if (calls.length > 1) for (const call of calls) await this.#hold(model, [call]);
      else if (!this.#waiting.some((c) => c.cache)) this.#fail(calls[0]!, error);
    }
  }

  #fail(call: Call, error: unknown): void {
    if (!call.settled) this.#counts.failed++;
    call.settle(error);
    if (this.lost || !(error instanceof LongerError && error.code === 'ERR_DEVICE_LOST')) return;
    this.lost = error;
    this.#onLost(error);
  }

  async #scoreOnce(model: ServedModel, calls: readonly Call[]): Promise<void> {
    this.#counts.plain += calls.length;
    const from = performance.now();
    const logits = await model.ranker.scoreOnce(calls.map((call) => call.request));
    this.#pace.read(calls, performance.now() - from);
    await this.#give(model, calls.map((call) => [call, call.request.candidates]), logits);
  }

  /** @param taken calls with the candidate at which their slices end */
  async #score(model: ServedModel, taken: readonly (readonly [Call, number])[]): Promise<void> {
    const from = performance.now();
    const logits = await model.pages.score(taken.map(([call]) => call.cache!), taken.map(([call, to]) => sliceCandidates(call.request, call.done, to)));
    this.#pace.scored(taken.reduce((n, [call, to]) => n + to - call.done, 0), performance.now() - from);
    await this.#give(model, taken, logits);
  }

  /** Hands out scores that are there. */
  async #give(model: ServedModel, taken: readonly (readonly [Call, number])[], logits: Float32Array): Promise<void> {
    const { tasks } = model.ranker.model.schema;
    this.#counts.batches++;
    const explain: Call[] = []; // each takes a full forward pass: the other calls do not wait for that
    let at = 0;
    for (const [call, to] of taken) {
      const scored = to - call.done;
      const mine = logits.subarray(at, (at += scored * tasks.length));
      this.#counts.rows += scored;
      if (call.settled) continue;
      if (!allFinite(mine)) {
        this.#fail(call, new LongerError('ERR_NUMERIC', 'the model gave a score that is no finite number', { place: model.name, remedy: 'Its parameters are damaged: load another checkpoint' }));
        continue;
      }
      call.logits.set(mine, call.done * tasks.length);
      call.done = to;
      this.#waitingRows -= scored;
      if (to < call.request.candidates) continue;
      if (call.explain) explain.push(call);
      else call.settle();
    }
    for (const call of explain) if (!call.settled) await this.#explain(model, call, call.explain!);
  }

  async #explain(model: ServedModel, call: Call, wanted: WantedExplanations): Promise<void> {
    try {
      call.explanations = await explained(model.ranker, call.request, wanted, call.logits);
      call.settle();
    } catch (error) {
      this.#fail(call, error);
    }
  }
}

function allFinite(numbers: Float32Array): boolean {
  let sum = 0;
  for (let i = 0; i < numbers.length; ++i) sum += 0 * numbers[i]!;
  return sum === 0;
}

/** Milliseconds after which a warm-up takes a turn among calls that never cease. */
const patience = 50;

const found = { hit: 'hit', partial: 'grown', miss: 'miss' } as const;
