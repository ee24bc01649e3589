/** Waits until what runs now has ended, so that calls made together come together, or some microseconds; timers are too coarse for fewer than a thousand. */
export async function pause(micros: number): Promise<void> {
  if (micros === 0) return new Promise((resolve) => { process.nextTick(resolve); });
  const until = performance.now() + micros / 1000;
  do await new Promise<void>((resolve) => setImmediate(resolve));
  while (performance.now() < until);
}
