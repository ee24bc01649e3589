import { setTimeout as sleep } from 'node:timers/promises';
import autocannon from 'autocannon';

export interface Answer {
  /** Seconds since the load began, when it came. */
  readonly at: number;
  readonly milliseconds: number;
  readonly status: number;
}

export interface Load {
  readonly answers: readonly Answer[];
  readonly errors: number;
  readonly seconds: number;
}

export interface LoadOptions {
  readonly url: string;
  readonly path: string;
  /** Each sends the next request as soon as it has its answer, or, where `paced`, once a second. */
  readonly connections: number;
  readonly paced?: boolean;
  readonly seconds: number;
  /** The next body. */
  readonly body: () => string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Moments of a second at which paced connections send: one autocannon lets all of its connections send at the same moment. */
const beats = 50;

/** Sends requests from this process. Latencies are counted from the moment of sending. */
export async function load({ url, path, connections, paced = false, seconds, body, headers = {} }: LoadOptions): Promise<Load> {
  const answers: Answer[] = [];
  const from = performance.now();
  const send = async (count: number): Promise<number> => {
    const running = autocannon({
      url, connections: count, duration: seconds, timeout: 60, ...(paced ? { overallRate: count } : {}),
      requests: [{ method: 'POST', path, headers: { 'content-type': 'application/json', ...headers }, setupRequest: (request) => ({ ...request, body: body() }) }],
    });
    running.on('response', (_, status, __, milliseconds) => { answers.push({ at: (performance.now() - from) / 1000, milliseconds, status }); });
    const { errors, timeouts } = await running;
    return errors + timeouts;
  };
  const waves = paced ? Math.min(beats, connections) : 1;
  const errors = await Promise.all(Array.from({ length: waves }, async (_, i) => {
    await sleep((1000 * i) / waves);
    return send(Math.floor(connections / waves) + (i < connections % waves ? 1 : 0));
  }));
  return { answers, errors: errors.reduce((a, b) => a + b), seconds };
}

export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN;
}

export const times = (answers: readonly Answer[], status: (status: number) => boolean): number[] => answers.filter((a) => status(a.status)).map((a) => a.milliseconds);
