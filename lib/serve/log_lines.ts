import { writeSync } from 'node:fs';

/**
 * Lines to a file descriptor, for which a service never stops: a line that cannot be written (disk full, nobody reads) is dropped, and the next one
 * that can be is preceded by how many were. (Pino's own destination tries a full disk again for ever.)
 */
export class LogLines {
  readonly #fd: number;
  readonly #write: typeof writeSync;
  #dropped = 0;

  constructor(fd: number, write = writeSync) {
    this.#fd = fd;
    this.#write = write;
  }

  write(line: string): void {
    const before = this.#dropped > 0 ? `${JSON.stringify({ level: 40, msg: `${this.#dropped} lines before this one could not be written` })}\n` : '';
    try {
      const bytes = Buffer.from(before + line);
      for (let at = 0; at < bytes.length;) at += this.#write(this.#fd, bytes, at);
      this.#dropped = 0;
    } catch {
      ++this.#dropped;
    }
  }
}
