/** A bound that a number is held to. */
export type Bound = { readonly atLeast: number } | { readonly above: number } | { readonly atMost: number } | { readonly below: number };

/**
 * Events by a column of the log: `value` by its number (default: `columns.value`), `action` by its text (default: `columns.action`). An empty number is
 * neither, an empty text is none of the actions.
 */
export type EventRule =
  | ({ readonly kind: 'value'; readonly column?: string } & Bound)
  | { readonly kind: 'action'; readonly column?: string; readonly positive: readonly string[] };

/** What counts as a positive. `all`: every event (for sampled negatives). */
export type LabelRule = EventRule | { readonly kind: 'all' };

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
 * `given`: every event is an impression with its labels. `popularity`: candidates are the events that are positive for some task and, for each,
 * `perPositive` items drawn with probability proportional to (training count) ^ exponent, each once a
 * request and never one of its positives.
 */
export type NegativeRule =
  | { readonly kind: 'given' }
  | { readonly kind: 'popularity'; readonly perPositive: number; readonly exponent?: number };

/** How many of a time unit are a second. */
export const perSecond = { s: 1, ms: 1e3, us: 1e6 } as const;
export type TimeUnit = keyof typeof perSecond;

/**
 * How a column becomes a feature: `id`, an embedding for each of its values; `ids`, cells of several values with `|` between them (or of a Parquet list), and
 * `ids:,` with another separator (`ids:[]` for cells as `['a', 'b']`), pooled by their mean; `number`, standardised; `buckets`, 16 of equal counts with an
 * embedding each; `none`, left out.
 */
export type ReadAs = 'id' | 'ids' | `ids:${string}` | 'number' | 'buckets' | 'none';

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
  /**
   * How columns of the side tables, of `eventFeatures`, `columns.value` and `columns.action` are read, by name; `items.name` where several tables have it. What
   * is not named here is read as its values suggest, and `PrepareStats.readAs` says how.
   */
  readonly readAs?: Readonly<Record<string, ReadAs>>;
  /**
   * Tasks by name, and what is positive for each. An event whose number is empty has no label for that task; one that has a label for none cannot be used. Columns
   * of labels are no features of history events unless `columns` or `eventFeatures` names them too, and never of candidates.
   */
  readonly labels: Readonly<Record<string, LabelRule>>;
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
  /** Leaves out rows that cannot be used instead of failing: without user, item or time, without any label, or with a text where a number is due. */
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

/** Candidates with a label for a task, and the positive ones among them. */
export interface TaskStats {
  readonly labelled: number;
  readonly positive: number;
}

export interface PartStats {
  readonly requests: number;
  readonly candidates: number;
  readonly tasks: Readonly<Record<string, TaskStats>>;
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
  /** How each column was read (`items.genres`: `ids`), as the option of this name takes it. */
  readonly readAs: Readonly<Record<string, ReadAs>>;
  /** Side columns left out because nearly every row has a text of its own. */
  readonly leftOut: readonly string[];
  /** What is likely not meant: a task with one kind of label alone to train on. */
  readonly warnings: readonly string[];
}

/** How the caller names an option: by its path in a program (`columns.time`, `labels.like`), by its flag in a shell. */
export type OptionNames = (option: string) => string;
