import type { Call } from './call.ts';

/** Share of what was measured before that is left beside a new measurement. */
const memory = 0.9;
/** A measurement counts as at most so many times what was expected: the event loop may have stood still meanwhile, for a model that was loaded. */
const outlier = 4;

/** Milliseconds of one unit of work: the ratio of sums, so that a small batch weighs little. */
class Rate {
  #units = 0;
  #milliseconds = 0;

  /** 0 while nothing was measured. */
  get value(): number {
    return this.#units === 0 ? 0 : this.#milliseconds / this.#units;
  }

  add(units: number, milliseconds: number): void {
    if (units === 0) return;
    const counted = this.#units === 0 ? milliseconds : Math.min(milliseconds, outlier * units * this.value);
    this.#units = memory * this.#units + units;
    this.#milliseconds = memory * this.#milliseconds + counted;
  }
}

/** How long work takes, learned apart for candidates that are scored and for histories that are read first. */
export class Pace {
  readonly #rows = new Rate();
  readonly #events = new Rate();

  scored(rows: number, milliseconds: number): void {
    this.#rows.add(rows, milliseconds);
  }

  /** @param calls whose caches were made, or that were scored without one */
  read(calls: readonly Call[], milliseconds: number): void {
    this.#events.add(calls.reduce((n, call) => n + eventsOf(call), 0), milliseconds);
  }

  /** Milliseconds that calls will take. */
  of(calls: readonly Call[]): number {
    let [rows, events] = [0, 0];
    for (const call of calls) {
      rows += call.request.candidates - call.done;
      if (!call.cache) events += eventsOf(call);
    }
    return rows * this.#rows.value + events * this.#events.value;
  }
}

/** An empty history is a prefill too. */
const eventsOf = (call: Call): number => Math.max(1, call.request.events);
