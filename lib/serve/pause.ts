/** Waits some microseconds; timers are too coarse for fewer than a thousand. */
export async function pause(micros: number): Promise<void> {
  const until = performance.now() + micros / 1000;
  do await new Promise<void>((resolve) => setImmediate(resolve));
  while (performance.now() < until);
}
