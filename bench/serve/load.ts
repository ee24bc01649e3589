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
  readonly connections: number;
  readonly seconds: number;
  /** Requests a second that are offered; default: each connection sends the next as soon as it has its answer. */
  readonly rate?: number;
  /** The next body of a connection. */
  readonly body: (connection: number) => string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Sends requests from this process. Latencies are counted from the moment of sending. */
export async function load({ url, path, connections, seconds, rate, body, headers = {} }: LoadOptions): Promise<Load> {
  const answers: Answer[] = [];
  const from = performance.now();
  let clients = 0;
  const request = { method: 'POST', path, headers: { 'content-type': 'application/json', ...headers } };
  const running = autocannon({
    url, connections, duration: seconds, timeout: 60, requests: [request], ...(rate === undefined ? {} : { overallRate: rate }),
    setupClient: (client) => {
      const me = clients++;
      client.setRequests([{ ...request, setupRequest: (r) => ({ ...r, body: body(me) }) }]);
    },
  });
  running.on('response', (_, status, __, milliseconds) => { answers.push({ at: (performance.now() - from) / 1000, milliseconds, status }); });
  const { errors, timeouts, duration } = await running;
  return { answers, errors: errors + timeouts, seconds: duration };
}

export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN;
}

export const times = (answers: readonly Answer[], status: (status: number) => boolean): number[] => answers.filter((a) => status(a.status)).map((a) => a.milliseconds);
