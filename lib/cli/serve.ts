import { Command, Option } from 'commander';
import { Catalog } from '../data/catalog.ts';
import { LongerError } from '../errors.ts';
import { type Computed, deviceOption, type Machine, machineOf, positiveNumber, precisionOf, precisionOption, threadsOption, wholeNumber } from './files.ts';
import type { CachePrecision } from '../model/pages.ts';

interface Options extends Machine, Computed {
  readonly model: string;
  readonly models?: string;
  readonly catalog?: string;
  readonly host: string;
  readonly port: number;
  readonly cacheMb: number;
  readonly cachePrecision: CachePrecision;
  readonly redis?: string;
  readonly maxEvents: number;
  readonly timeout: number;
  readonly warmup: number;
  readonly replica: string;
  readonly patience: number;
  readonly drain: number;
  readonly log: string;
}

export function serveCommand(): Command {
  return new Command('serve')
    .description('rank over HTTP: POST /v1/rank, /v1/histories/{user}, /v1/models, GET /healthz, /readyz, /metrics, /openapi.json')
    .requiredOption('--model <dir>', 'checkpoint directory')
    .option('--models <dir>', 'directory whose models POST /v1/models may load by name')
    .option('--catalog <dir>', "what 'longer prepare' made: requests and events have the ids, columns and values of its log")
    .option('--host <address>', 'address to listen at; LONGER_TOKEN in the environment asks for a bearer token', '127.0.0.1')
    .option('--port <n>', 'port; 0: any that is free', wholeNumber, 8080)
    .addOption(threadsOption())
    .addOption(deviceOption())
    .addOption(precisionOption())
    .option('--cache-mb <n>', 'MiB of caches', positiveNumber, 256)
    .addOption(new Option('--cache-precision <form>', "keys and values in caches as the model's precision computes them, or in int8").choices(['model', 'int8']).default('model'))
    .option('--redis <url>', 'histories in Redis, shared and kept (needs the package redis); a URL with a password belongs into LONGER_REDIS in the environment')
    .option('--max-events <n>', 'newest events of a user that the history store keeps', wholeNumber, 10_000)
    .option('--timeout <ms>', 'milliseconds that a call may take where it names none', positiveNumber, 1000)
    .option('--warmup <ms>', 'milliseconds that caches of the users ranked last may take: at the start, before /readyz says ready (from --redis), and when a model is loaded', wholeNumber, 5000)
    .option('--replica <name>', 'name under which Redis keeps who was ranked last here; give each replica that has users of its own another, which it keeps', '')
    .option('--patience <s>', 'seconds for a client to send its request, and that a socket may stay silent', positiveNumber, 30)
    .option('--drain <s>', 'seconds that requests may take to finish after SIGTERM', positiveNumber, 10)
    .addOption(new Option('--log <level>', 'log lines').choices(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('info'))
    .action(async (options: Options) => {
      // Only this command loads the server.
      const { LogLines, MemoryHistoryStore, rankServer, RankService, RedisHistoryStore } = await import('../serve/index.ts');
      const lines = new LogLines(1);
      const token = process.env['LONGER_TOKEN'];
      if (!['127.0.0.1', '::1', 'localhost'].includes(options.host) && token === undefined)
        throw new LongerError('ERR_CONFIG', 'an address that others reach needs a token', { place: `--host ${options.host}`, remedy: 'Set LONGER_TOKEN, or listen at 127.0.0.1 behind a proxy' });
      const { maxEvents } = options;
      const catalog = options.catalog === undefined ? undefined : await Catalog.open(options.catalog);
      // Stored events hold codes, which mean nothing under another catalog.
      const prefix = catalog ? { prefix: `longer:${catalog.fingerprint}:` } : {};
      const redis = options.redis ?? process.env['LONGER_REDIS'];
      const service = await RankService.open(options.model, { cacheBytes: options.cacheMb * 2 ** 20, cachePrecision: options.cachePrecision, timeout: options.timeout, warmup: options.warmup }, {
        ...machineOf(options),
        ...precisionOf(options),
        histories: (schema) => (redis === undefined ? new MemoryHistoryStore(schema, { maxEvents }) : RedisHistoryStore.connect(schema, { url: redis, maxEvents, replica: options.replica, ...prefix })),
      });
      let [warm, draining] = [false, false];
      const app = await rankServer({
        service, logLevel: options.log, patience: Math.ceil(options.patience * 1000), logStream: lines, ready: () => warm && !draining,
        ...(catalog ? { catalog } : {}), ...(token === undefined ? {} : { token }), ...(options.models === undefined ? {} : { models: options.models }),
      });
      const stopped = new Promise<void>((resolve) => {
        for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => { resolve(); });
      });
      try {
        const url = await app.listen({ host: options.host, port: options.port }).catch((cause: unknown) => {
          throw new LongerError('ERR_CONFIG', (cause as Error).message.replace(/\.$/, ''), { place: `--host ${options.host} --port ${options.port}`, remedy: 'Give an address of this machine and a free port', cause });
        });
        lines.write(`longer: serving ${options.model} at ${url}\n`);
        void service.warm().then(({ users, caches, milliseconds, failed }) => {
          if (users > 0) lines.write(`longer: ${users} histories read and ${caches} caches made of the users ranked last, in ${Math.round(milliseconds)} ms\n`);
          if (failed) lines.write(`longer: the warm-up ended early: ${failed.message}\n`);
          warm = true;
        });
        const failure = await Promise.race([stopped, service.lost]);
        if (failure) throw failure; // whoever started the process starts another
      } finally {
        draining = true;
        const cut = setTimeout(() => { app.server.closeAllConnections(); }, options.drain * 1000);
        await app.close();
        await service.close();
        clearTimeout(cut);
      }
    });
}
