const longest = 1.5;
let last = 0;

/**
 * Lets the event loop turn where it has stood still for more than 1.5 milliseconds; undefined where there is no need yet. Awaited between
 * small pieces of long work (rows, requests): what only awaits promises that are ready never gives timers and sockets their turn.
 */
export function turn(): Promise<void> | undefined {
  if (performance.now() - last < longest) return undefined;
  return new Promise((resolve) => {
    setImmediate(() => {
      last = performance.now();
      resolve();
    });
  });
}
