/** Events by their value or action. */
export type EventRule = Exclude<LabelRule, { readonly kind: 'all' }>;

/** What counts as a positive. `all`: every event (for sampled negatives). */
export type LabelRule =
  | { readonly kind: 'value'; readonly atLeast: number }
  | { readonly kind: 'action'; readonly positive: readonly string[] }
  | { readonly kind: 'all' };

/**
 * Which events are learned from and which are judged.
 * - `time`: one global clock. Fractions of all events [train, valid, test], or the first times (seconds) of valid and test.
 * - `leave-last-n`, `leave-last-fraction`: each user's last events, in order; fractions round to the nearest whole event, halves to even.
 *   Only an order is needed, but the future of one user stands beside the past of another.
 */
export type SplitRule =
  | { readonly kind: 'time'; readonly fractions: readonly [number, number, number] }
  | { readonly kind: 'time'; readonly validFrom?: number; readonly testFrom: number }
  | { readonly kind: 'leave-last-n' | 'leave-last-fraction'; readonly valid: number; readonly test: number };

/**
 * `given`: every event is an impression with its label. `popularity`: candidates are the positive events and, for each,
 * `perPositive` items drawn with probability proportional to (training count) ^ exponent, each once a
 * request and never one of its positives.
 */
export type NegativeRule =
  | { readonly kind: 'given' }
  | { readonly kind: 'popularity'; readonly perPositive: number; readonly exponent?: number };

/** How many of a time unit are a second. */
export const perSecond = { s: 1, ms: 1e3, us: 1e6 } as const;
export type TimeUnit = keyof typeof perSecond;

export interface PrepareOptions {
  /** Event log: .csv, .csv.gz or .parquet, with a header. */
  readonly events: string;
  /** Directory to make. */
  readonly output: string;
  /** Columns of the log. Time is a number or a timestamp; empty throughout means order only. */
  readonly columns: {
    readonly user: string;
    readonly item: string;
    readonly time?: string;
    readonly seq?: string;
    readonly value?: string;
    readonly action?: string;
  };
  /** What numbers in the time column count; timestamps need none. Default `s`. */
  readonly timeUnit?: TimeUnit;
  /** More columns of the log that become features of history events (never of candidates: they would tell the label). */
  readonly eventFeatures?: readonly string[];
  /** Side tables, keyed by the log's user and item column names. */
  readonly users?: string;
  readonly items?: string;
  /** Columns of the side tables to use; all that are not free text by default. */
  readonly userFeatures?: readonly string[];
  readonly itemFeatures?: readonly string[];
  readonly label: LabelRule;
  /** Name of the label. Default `label`. */
  readonly task?: string;
  readonly split: SplitRule;
  /** `run`: consecutive events of a user make one request; `time`: events of one user and one time. Default `run`. */
  readonly grouping?: 'run' | 'time';
  /** Most events of a request; default 16. Sampled negatives come on top. */
  readonly candidates?: number;
  /** The same for valid and test; fewer keep the history fresher. Default `candidates`. */
  readonly evaluationCandidates?: number;
  readonly negatives?: NegativeRule;
  /** Which events enter histories, as clicks out of a log of impressions; all are candidates. Default: all. */
  readonly history?: EventRule;
  /** Newest events kept in a history. Default 2000. */
  readonly historyLength?: number;
  /** Requests with fewer events before them are left out. Default 0. */
  readonly minHistory?: number;
  /** Leaves out rows without user, item, time or value instead of failing. */
  readonly skipBad?: boolean;
  /** Seed of the sampling and of the order of train.parquet. Default 1. */
  readonly seed?: number;
  /** Replaces an output directory that is there. */
  readonly overwrite?: boolean;
  /** DuckDB's memory limit, e.g. '4GB', and threads. */
  readonly memoryLimit?: string;
  readonly threads?: number;
}

export type PartName = 'train' | 'valid' | 'test';
export const partNames: readonly PartName[] = ['train', 'valid', 'test'];

export interface PartStats {
  readonly requests: number;
  readonly candidates: number;
  readonly positives: number;
  readonly users: number;
  readonly history: { readonly mean: number; readonly median: number; readonly max: number };
  /** Share of candidates whose item was never seen in training (code 0). */
  readonly unknownItems: number;
}

export interface PrepareStats {
  readonly events: number;
  readonly users: number;
  readonly items: number;
  /** `seconds`, or `order` where time is an event's rank within its user. */
  readonly clock: 'seconds' | 'order';
  readonly badRows: number;
  readonly parts: Readonly<Partial<Record<PartName, PartStats>>>;
  /** Side columns left out because nearly every row has a text of its own. */
  readonly leftOut: readonly string[];
}
