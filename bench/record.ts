/** One figure, beside what it is measured against in the same run. */
export interface BenchRecord {
  readonly bench: string;
  readonly name: string;
  /** Preset or shape. */
  readonly config: string;
  readonly threads: number;
  readonly precision: 'fp32' | 'tf32' | 'bf16' | 'fp16';
  readonly value: number;
  readonly unit: string;
  /** The roof, peer or figure of our own that `ratio` is against. */
  readonly against?: { readonly name: string; readonly value: number };
  /** Better is larger, or smaller where the bar says so. */
  readonly ratio?: number;
  readonly bar?: { readonly is: '>=' | '<='; readonly value: number };
  /** What limits the figure, or how it was counted. */
  readonly note?: string;
  /** Something that was not there; the record has no figure then. */
  readonly missing?: string;
}

/** Whether a record meets its bar; null without one. The ratio is held to it, the value where there is no ratio. */
export function passes(r: BenchRecord): boolean | null {
  if (!r.bar || r.missing !== undefined) return null;
  const figure = r.ratio ?? r.value;
  return r.bar.is === '>=' ? figure >= r.bar.value : figure <= r.bar.value;
}

const key = (r: BenchRecord): string => [r.bench, r.name, r.config, r.threads, r.precision].join('|');

/** Later records take the place of earlier ones of the same figure. */
export function merged(before: readonly BenchRecord[], after: readonly BenchRecord[]): BenchRecord[] {
  const all = new Map(before.map((r) => [key(r), r]));
  for (const r of after) all.set(key(r), r);
  return [...all.values()];
}
