/**
 * DuckDB's work in flight must not outlive the thread that began it: ended in between, the process aborts. So the thread that reads counts its
 * work in a word that it shares with the thread that may end it: [work in flight, whether none may begin any more].
 */
export type Flight = Int32Array<SharedArrayBuffer>;

export const newFlight = (): Flight => new Int32Array(new SharedArrayBuffer(8));

let own: Flight | undefined;

/** Work of this thread is counted from here on. */
export function countFlights(flight: Flight): void {
  own = flight;
}

/** Work that is counted; once none may begin any more, a promise that stays open. */
export async function inFlight<T>(work: () => Promise<T>): Promise<T> {
  if (!own) return work();
  Atomics.add(own, 0, 1);
  try {
    if (Atomics.load(own, 1) === 0) return await work();
  } finally {
    Atomics.sub(own, 0, 1);
    Atomics.notify(own, 0);
  }
  return new Promise(() => undefined);
}

/** Blocks until the other thread has nothing in flight and begins nothing more, ten seconds at most. */
export function land(flight: Flight): void {
  Atomics.store(flight, 1, 1);
  const until = performance.now() + 10_000;
  for (let n = Atomics.load(flight, 0); n > 0 && performance.now() < until; n = Atomics.load(flight, 0)) Atomics.wait(flight, 0, n, 100);
}
