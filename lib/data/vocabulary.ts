/** The keys of an embedding table as `prepare` wrote them; the first has code 1, and code 0 is for what is none of them. */
export class Vocabulary {
  readonly #codes: ReadonlyMap<string, number>;
  /** By value, where all keys are numbers: a log in Parquet has 5.0 where a request has 5. */
  readonly #numbers: ReadonlyMap<number, number> | undefined;

  constructor(keys: readonly string[]) {
    this.#codes = new Map(keys.map((key, i) => [key, i + 1]));
    const numbers = keys.map(exactNumber);
    if (keys.length > 0 && numbers.every((n) => n !== undefined)) this.#numbers = new Map(numbers.map((n, i) => [n, i + 1]));
  }

  code(key: string): number {
    const code = this.#codes.get(key);
    if (code !== undefined) return code;
    const number = this.#numbers && exactNumber(key);
    return number === undefined ? 0 : (this.#numbers!.get(number) ?? 0);
  }
}

/** Undefined for a text that is no number, or one of more digits than a number holds. */
function exactNumber(text: string): number | undefined {
  const n = Number(text);
  return text.trim() === '' || !Number.isFinite(n) || Math.abs(n) > Number.MAX_SAFE_INTEGER ? undefined : n;
}
