import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from './helpers.ts';

/** Why nothing can be tested against Redis here. */
export const noRedis = spawnSync('redis-server', ['--version']).status === 0 ? undefined : 'NOT TESTED: redis-server is not installed (apt-get install redis-server)';

/** A real redis-server, which writes everything through: what it has answered outlives its kill. */
export class RedisServer {
  readonly #port: number;
  readonly #directory = mkdtempSync(join(tmpdir(), 'longer-redis-'));
  #process: ChildProcess | undefined;

  private constructor(port: number) {
    this.#port = port;
  }

  static async started(): Promise<RedisServer> {
    const server = new RedisServer(await freePort());
    await server.start();
    return server;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.#port}`;
  }

  async start(): Promise<void> {
    this.#process = spawn('redis-server', ['--port', String(this.#port), '--bind', '127.0.0.1', '--dir', this.#directory, '--appendonly', 'yes', '--appendfsync', 'always', '--save', ''], { stdio: ['ignore', 'pipe', 'inherit'] });
    for await (const chunk of this.#process.stdout!) if (String(chunk).includes('Ready to accept connections')) break;
    this.#process.stdout!.resume();
  }

  async kill(): Promise<void> {
    this.#process!.kill('SIGKILL');
    await once(this.#process!, 'exit');
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.#directory, { recursive: true });
  }
}
