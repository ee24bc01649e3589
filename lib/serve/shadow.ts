import type { Ranker } from '../rank/ranker.ts';
import type { EncodedRequest } from '../schema/encode.ts';
import { sigmoid } from '../train/metrics.ts';
import { Retirable } from './retirable.ts';

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
const nothing = { scores: 0, sum: 0, max: 0, dropped: 0, failed: 0 };

/** A second model that scores what was served, one request after another, when there is time. */
export class Shadow {
  #model: { readonly ranker: Ranker; readonly life: Retirable } | undefined;
  #waiting: { readonly request: EncodedRequest; readonly served: Float32Array }[] = [];
  #counts = { ...nothing };

  /** Takes a ranker over, in the place of the one before. */
  use(ranker: Ranker, name: string): void {
    this.stop();
    this.#model = { ranker, life: new Retirable(name, () => { ranker.dispose(); }) };
  }

  stop(): void {
    this.#model?.life.retire();
    this.#model = undefined;
    this.#waiting = [];
    this.#counts = { ...nothing };
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
    const leave = model.life.enter();
    try {
      const scores = await model.ranker.score(await model.ranker.prefill([next.request]));
      scores.forEach((x, i) => {
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
    return { model: this.#model?.life.name ?? null, scores, meanDifference: scores === 0 ? 0 : sum / scores, maxDifference: max, dropped, failed };
  }
}
