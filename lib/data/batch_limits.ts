/** A batch is full when another request would pass one of these. One request always fits. */
export interface BatchLimits {
  /** History events that the model keeps, all requests together. */
  readonly maxEvents: number;
  readonly maxRequests: number;
  /** Of all requests together. */
  readonly maxCandidates: number;
}

/** What a request adds to a batch. */
export interface RequestSize {
  readonly events: number;
  readonly candidates: number;
}

/** How full a batch is that is being gathered. */
export class BatchFill {
  readonly #limits: BatchLimits;
  readonly #maxHistory: number;
  #requests = 0;
  #events = 0;
  #candidates = 0;

  /** @param maxHistory older events of a request are not counted */
  constructor(limits: BatchLimits, maxHistory: number) {
    this.#limits = limits;
    this.#maxHistory = maxHistory;
  }

  get empty(): boolean {
    return this.#requests === 0;
  }

  /** Adds a request. @returns whether it is the first of another batch, as the one before was full */
  add({ events, candidates }: RequestSize): boolean {
    const { maxEvents, maxRequests, maxCandidates } = this.#limits;
    const counted = Math.min(events, this.#maxHistory);
    const full = !this.empty && (this.#requests >= maxRequests || this.#events + counted > maxEvents || this.#candidates + candidates > maxCandidates);
    if (full) [this.#requests, this.#events, this.#candidates] = [0, 0, 0];
    this.#requests++;
    this.#events += counted;
    this.#candidates += candidates;
    return full;
  }
}
