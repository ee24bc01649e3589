import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';

/** A peer in a process of its own: one JSON object a line in, one out. */
export class Peer implements AsyncDisposable {
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #lines: Interface;
  readonly #answers: AsyncIterator<string>;
  #errors = '';

  /** The caller's OPENBLAS_* settings are dropped: what the peer runs with is in `env`. */
  constructor(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('OPENBLAS_')));
    this.#process = spawn(command, args, { env: { ...inherited, ...env } });
    this.#process.on('error', (e) => { this.#errors += String(e); });
    this.#process.stdin.on('error', () => undefined); // the answer's absence tells
    this.#process.stderr.on('data', (d: Buffer) => { this.#errors += d.toString(); });
    this.#lines = createInterface(this.#process.stdout);
    this.#answers = this.#lines[Symbol.asyncIterator]();
  }

  async ask<T>(question: object): Promise<T> {
    this.#process.stdin.write(`${JSON.stringify(question)}\n`);
    const next: IteratorResult<string, unknown> = await this.#answers.next();
    if (next.done) throw new Error(`the peer ended: ${this.#errors.slice(-600)}`);
    return JSON.parse(next.value) as T;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.stdin.end();
    await new Promise((resolve) => { if (this.#process.exitCode === null) this.#process.once('close', resolve); else resolve(undefined); });
  }
}
