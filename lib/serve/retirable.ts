import { LongerError } from '../errors.ts';

/** What may be replaced while it is in use: it is disposed when its last user has left. */
export class Retirable {
  readonly name: string;
  readonly #dispose: () => void;
  #users = 0;
  #retired = false;

  constructor(name: string, dispose: () => void) {
    this.name = name;
    this.#dispose = dispose;
  }

  get retired(): boolean {
    return this.#retired;
  }

  /** @returns what to call when the use is over */
  enter(): () => void {
    if (this.#retired) throw new LongerError('ERR_DISPOSED', `the model '${this.name}' was replaced`);
    this.#users++;
    let inside = true;
    return () => {
      if (!inside) return;
      inside = false;
      if (--this.#users === 0 && this.#retired) this.#dispose();
    };
  }

  /** No new users; disposed after the last. */
  retire(): void {
    if (this.#retired) return;
    this.#retired = true;
    if (this.#users === 0) this.#dispose();
  }
}
