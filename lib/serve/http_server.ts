import fastify, { type FastifyInstance, LogController } from 'fastify';
import type { ErrorReply } from './http_errors.ts';
import { rankPlugin, type RankPluginOptions } from './http_plugin.ts';

export interface HttpOptions extends RankPluginOptions {
  /** Bytes of a body. */
  readonly bodyLimit?: number;
  /** Milliseconds for a client to send its request, byte by byte or not at all, and that a socket may stay silent. It is closed at most a second later. */
  readonly patience?: number;
  /** Pino level; default: silent. */
  readonly logLevel?: string;
  /** Where log lines go; default: standard output. */
  readonly logStream?: { write(line: string): void };
}

/** A Fastify app of its own: limits against slow clients, and logs that name no user, address or content. */
export async function rankServer({ bodyLimit = 2 ** 24, patience = 30_000, logLevel = 'silent', logStream, ...options }: HttpOptions): Promise<FastifyInstance> {
  const app = fastify({
    bodyLimit, requestTimeout: patience, connectionTimeout: patience, keepAliveTimeout: 5000,
    // Node's own: 60 s for the head, looked at every 30 s.
    http: { headersTimeout: patience, requestTimeout: patience, connectionsCheckingInterval: Math.min(1000, patience) },
    logController: new LogController({ disableRequestLogging: true }),
    logger: { level: logLevel, serializers: { req: () => ({}), res: () => ({}) }, ...(logStream ? { stream: logStream } : {}) },
  });
  app.setNotFoundHandler((_, reply) => reply.status(404).send({ error: { code: 'ERR_HTTP', message: 'there is no such route; GET /openapi.json lists them' } } satisfies ErrorReply));
  await app.register(rankPlugin, options);
  return app;
}
