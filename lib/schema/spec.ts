import type { Features } from './features.ts';

export interface TableSpec {
  /** Rows. */
  readonly size: number;
  readonly width: number;
  readonly hash?: boolean;
}

/** What a schema is defined by, and what `schema.json` holds. */
export interface SchemaSpec {
  readonly tables?: Readonly<Record<string, TableSpec>>;
  readonly user?: Features;
  readonly context?: Features;
  readonly event: Features;
  readonly candidate: Features;
  /** Binary labels (tasks) with their weight in the loss. */
  readonly labels: Readonly<Record<string, { readonly weight?: number }>>;
  /** Events and requests carry a time in seconds. Without, a history has an order only. */
  readonly time: boolean;
  /** Fingerprint of the catalog (`prepare`) that says what the codes of its tables mean; of no other use to a model. */
  readonly catalog?: string;
}
