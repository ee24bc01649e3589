import { createHash, timingSafeEqual } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import swagger from '@fastify/swagger';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Catalog } from '../data/catalog.ts';
import { LongerError } from '../errors.ts';
import { nearest } from '../schema/suggest.ts';
import { sigmoid } from '../train/metrics.ts';
import type { StoredEvent } from './stored_events.ts';
import { arrowBody, arrowReply, arrowType } from './arrow_body.ts';
import { errorReply } from './http_errors.ts';
import { Metrics } from './metrics.ts';
import type { RankRequest } from './rank_call.ts';
import type { RankService } from './rank_service.ts';
import { eventsSchema, rankBodySchema, rankReplySchema } from './request_schema.ts';

export interface RankPluginOptions {
  readonly service: RankService;
  /** Asked for as `Authorization: Bearer` everywhere but at /healthz and /readyz. */
  readonly token?: string;
  /** Directory whose model directories may be loaded by name; default: none may. */
  readonly models?: string;
  /** Requests and events come in the terms of this catalog's log; Arrow bodies hold the schema's features all the same. */
  readonly catalog?: Catalog;
  /** False while the process drains. */
  readonly ready?: () => boolean;
}

const open = new Set(['/healthz', '/readyz']);
const bodyKeys = ['user', 'context', 'time', 'history', 'historyStart', 'userId', 'candidates', 'tasks', 'topK', 'explain', 'reuse', 'id'];
const deadlineHeader = 'x-deadline-ms';

/** The service's routes, for any Fastify app: `app.register(rankPlugin, { service, prefix })`. The app keeps its own hooks and error handler. */
export async function rankPlugin(app: FastifyInstance, { service, token, models, catalog, ready = () => true }: RankPluginOptions): Promise<void> {
  catalog?.check(service.schema, service.model.name);
  const metrics = new Metrics(service);
  // Bodies are checked by the schema of the model, once; the JSON Schemas below document them.
  app.setValidatorCompiler(() => () => true);
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  app.setErrorHandler((error, request, reply) => {
    const { status, body } = errorReply(error);
    if (status >= 500 && status !== 503 && status !== 504) request.log.error({ code: body.error.code, kind: (error as Error).name }, 'failed');
    if (status === 503) void reply.header('retry-after', '1');
    void reply.status(status).send(body);
  });
  if (token !== undefined) {
    if (token.length === 0) throw new LongerError('ERR_CONFIG', 'the token is empty', { place: 'token' });
    const wanted = digest(`Bearer ${token}`);
    app.addHook('onRequest', async (request, reply) => {
      if (open.has(routeOf(request).slice(app.prefix.length)) || timingSafeEqual(digest(request.headers.authorization ?? ''), wanted)) return undefined;
      return reply.status(401).header('www-authenticate', 'Bearer').send({ error: { code: 'ERR_HTTP', message: 'the bearer token is missing or wrong' } });
    });
  }
  app.addHook('onResponse', async (request, reply) => {
    const route = routeOf(request);
    metrics.answered(route, reply.statusCode, reply.elapsedTime / 1000);
    request.log.info({ method: request.method, route, status: reply.statusCode, ms: Math.round(reply.elapsedTime * 1000) / 1000 }, 'answered');
  });
  await app.register(swagger, { openapi: { openapi: '3.1.0', info: { title: 'longer-rec', version: '1' } } });
  await app.register(async (routes: FastifyInstance) => {
    rankRoute(routes, service, catalog);
    historyRoutes(routes, service, catalog);
    modelRoutes(routes, service, models);
    routes.get('/healthz', () => ({ ok: true }));
    routes.get('/readyz', (_, reply) => {
      const now = ready() && service.serves;
      return reply.status(now ? 200 : 503).send({ ready: now, model: service.model });
    });
    routes.get('/metrics', async (_, reply) => reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()));
    routes.get('/openapi.json', { schema: { hide: true } }, () => app.swagger());
  });
}

function rankRoute(app: FastifyInstance, service: RankService, catalog: Catalog | undefined): void {
  app.addContentTypeParser(arrowType, { parseAs: 'buffer' }, (_, body, done) => { done(null, body); });
  app.post('/v1/rank', {
    // A full queue refuses before the body is read.
    onRequest: async (request) => {
      await Promise.resolve(service.admit(deadline(request)));
    },
    schema: {
      summary: 'Order candidates', body: rankBodySchema(service.schema, service.options.maxCandidates, catalog), response: { 200: rankReplySchema(service.schema) },
      headers: { type: 'object', properties: { [deadlineHeader]: { type: 'number', description: 'milliseconds from now; later the answer is 504' } } },
    },
  }, async (request, reply) => {
    const arrow = Buffer.isBuffer(request.body);
    const body = arrow ? await arrowBody(service.schema, request.body as Buffer) : objectOf(request.body, 'body');
    const stray = Object.keys(body).find((key) => !bodyKeys.includes(key));
    if (stray !== undefined) {
      const near = nearest(stray, bodyKeys);
      throw new LongerError('ERR_DATA', 'unknown key', { place: stray.slice(0, 60), remedy: near === undefined ? `Known are ${bodyKeys.join(', ')}` : `Did you mean '${near}'?` });
    }
    if (body['userId'] !== undefined && typeof body['userId'] !== 'string') throw new LongerError('ERR_DATA', 'expected a text', { place: 'userId' });
    if (body['explain'] !== undefined && request.headers.accept === arrowType) throw new LongerError('ERR_DATA', 'explanations are given as JSON', { place: 'explain', remedy: 'Accept application/json' });
    const timeout = deadline(request);
    const terms = arrow ? undefined : catalog;
    const options = { signal: gone(reply), ...(timeout === undefined ? {} : { timeout }) };
    const result = await service.rank((terms?.request(body) ?? body) as unknown as RankRequest, options).catch(inTerms(terms));
    if (request.headers.accept === arrowType) return reply.type(arrowType).send(await arrowReply(result));
    const by = (value: (x: number) => number): object => Object.fromEntries(Object.entries(result.logits).map(([task, list]) => [task, Array.from(list, value)]));
    const explanations = result.explanations?.map(({ events, mass, rest }) => ({ events: [...events], mass: [...mass], rest }));
    return { model: result.model, cache: result.cache, index: [...result.index], logits: by((x) => x), probabilities: by(sigmoid), ...(explanations ? { explanations } : {}) };
  });
}

function historyRoutes(app: FastifyInstance, service: RankService, catalog: Catalog | undefined): void {
  const store = service.histories;
  if (!store) return;
  const schema = { params: { type: 'object', properties: { user: { type: 'string' } } }, body: { type: 'object', properties: { events: eventsSchema(service.schema, catalog) }, required: ['events'] } };
  const userOf = (request: FastifyRequest): string => (request.params as { user: string }).user;
  const eventsOf = (request: FastifyRequest): readonly StoredEvent[] => {
    const { events } = objectOf(request.body, 'body');
    return catalog ? catalog.events(events) : (events as readonly StoredEvent[]);
  };
  app.post('/v1/histories/:user', { schema: { summary: 'Append events', ...schema } }, async (request) => ({ events: await store.append(userOf(request), eventsOf(request)).catch(inTerms(catalog)) }));
  app.put('/v1/histories/:user', { schema: { summary: 'Replace a history', ...schema } }, async (request) => ({ events: await store.replace(userOf(request), eventsOf(request)).catch(inTerms(catalog)) }));
  app.delete('/v1/histories/:user', { schema: { summary: 'Forget a user', params: schema.params } }, async (request) => ({ deleted: await store.delete(userOf(request)) }));
}

/** Throws an error about what a catalog made of a body as one about the body. */
const inTerms = (catalog: Catalog | undefined) => (error: unknown): never => {
  throw catalog ? catalog.named(error) : error;
};

function modelRoutes(app: FastifyInstance, service: RankService, root: string | undefined): void {
  app.get('/v1/models', { schema: { summary: 'The model that is served, and those that can be' } }, async () => ({
    serving: { ...service.model, schema: service.schema.hash },
    available: root === undefined ? [] : (await readdir(root, { withFileTypes: true })).filter((d) => d.isDirectory() && !d.name.startsWith('.')).map((d) => d.name).sort(),
  }));
  app.post('/v1/models', { schema: { summary: 'Load a model and swap it in', body: { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] } } }, async (request) => {
    const { name } = objectOf(request.body, 'body');
    if (root === undefined) throw new LongerError('ERR_DATA', 'no models can be loaded', { place: 'name', remedy: 'Start the service with a directory of models' });
    if (typeof name !== 'string' || !/^[A-Za-z0-9_][\w.-]*$/.test(name)) throw new LongerError('ERR_DATA', 'expected the name of a directory among the models', { place: 'name' });
    return { serving: await service.load(join(root, name)) };
  });
}

/** The pattern of a route; an address would name the user. */
const routeOf = (request: FastifyRequest): string => request.routeOptions.url ?? 'unknown';
const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

function objectOf(value: unknown, place: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new LongerError('ERR_DATA', 'expected an object', { place });
  return value as Record<string, unknown>;
}

function deadline(request: FastifyRequest): number | undefined {
  const text = request.headers[deadlineHeader];
  if (text === undefined) return undefined;
  const ms = Number(text);
  if (!(ms > 0 && Number.isFinite(ms))) throw new LongerError('ERR_DATA', 'expected milliseconds above 0', { place: deadlineHeader });
  return ms;
}

/** Aborts when the client has left. */
function gone(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) controller.abort(new LongerError('ERR_ABORTED', 'the client has left'));
  });
  return controller.signal;
}
