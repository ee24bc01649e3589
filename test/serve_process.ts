import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

/** `longer serve` as a process of its own, at a free port. */
export class ServeProcess {
  readonly child: ChildProcess;
  readonly #exit: Promise<unknown[]>;
  #said = '';

  constructor(...args: readonly string[]) {
    const env = { ...process.env };
    for (const name of ['NODE_OPTIONS', 'LONGER_TOKEN', 'LONGER_REDIS']) delete env[name]; // the first is tap's own loader
    this.child = spawn(process.execPath, ['--import', 'tsx', join(import.meta.dirname, '../lib/cli/main.ts'), 'serve', '--port', '0', '--log', 'silent', '--timeout', '600000', ...args], { env, stdio: ['ignore', 'pipe', 'inherit'] });
    this.#exit = once(this.child, 'exit');
    this.child.stdout!.on('data', (chunk) => { this.#said += String(chunk); });
  }

  /** What it has written to standard output. */
  get said(): string {
    return this.#said;
  }

  /** Where it listens. */
  async url(): Promise<string> {
    for (;;) {
      const url = /at (http:\S+)\n/.exec(this.#said)?.[1];
      if (url !== undefined) return url;
      if (this.child.exitCode !== null) throw new Error(`longer serve ended with ${this.child.exitCode}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** The same, once /readyz says that it is ready. */
  async ready(): Promise<string> {
    const url = await this.url();
    while ((await fetch(`${url}/readyz`)).status !== 200) await new Promise((resolve) => setTimeout(resolve, 10));
    return url;
  }

  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<unknown[]> {
    this.child.kill(signal);
    return this.#exit;
  }
}
