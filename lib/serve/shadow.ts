import type { EncodedRequest } from '../schema/encode.ts';
import { sigmoid } from '../train/metrics.ts';
import type { ServedModel } from './served_model.ts';

/** How far the shadow is from what was served, in probabilities. */
export interface ShadowStats {
  readonly model: string | null;
  readonly scores: number;
  readonly meanDifference: number;
  readonly maxDifference: number;
  /** Calls that were left out because the shadow was behind. */
  readonly dropped: number;
  readonly failed: number;
}

const most = 16;

/** A second model that scores what was served, one request after another, when there is time. */
export class Shadow {
  #model: ServedModel | undefined;
  #waiting: { readonly request: EncodedRequest; readonly served: Float32Array }[] = [];
  #counts = { scores: 0, sum: 0, max: 0, dropped: 0, failed: 0 };

  use(model: ServedModel | undefined): void {
    this.#model?.retire();
    this.#model = model;
    this.#waiting = [];
    this.#counts = { scores: 0, sum: 0, max: 0, dropped: 0, failed: 0 };
  }

  offer(request: EncodedRequest, served: Float32Array): void {
    if (!this.#model) return;
    if (this.#waiting.length < most) this.#waiting.push({ request, served });
    else this.#counts.dropped++;
  }

  get behind(): boolean {
    return this.#waiting.length > 0;
  }

  /** Scores the next request. */
  async step(): Promise<void> {
    const model = this.#model;
    const next = this.#waiting.shift();
    if (!model || !next) return;
    const counts = this.#counts;
    const leave = model.enter();
    try {
      const prefix = model.prefix(next.request, '');
      const [value] = await model.prefill([prefix]);
      const [scores] = await model.score([{ prefix, value: value! }], [next.request]);
      scores!.forEach((x, i) => {
        const difference = Math.abs(sigmoid(x) - sigmoid(next.served[i]!));
        if (!Number.isFinite(difference)) throw new Error('no number');
        counts.scores++;
        counts.sum += difference;
        counts.max = Math.max(counts.max, difference);
      });
    } catch {
      counts.failed++; // a shadow may fail without anyone noticing but the counter
    } finally {
      leave();
    }
  }

  stats(): ShadowStats {
    const { scores, sum, max, dropped, failed } = this.#counts;
    return { model: this.#model?.name ?? null, scores, meanDifference: scores === 0 ? 0 : sum / scores, maxDifference: max, dropped, failed };
  }
}
