import type { Schema } from '../../lib/schema/schema.ts';
import type { Feature, Features } from '../../lib/schema/features.ts';
import { Random } from '../../lib/data/random.ts';

type Row = Record<string, unknown>;

/** Made requests of any schema as JSON carries them: ids drawn evenly, numbers around their mean, events minutes apart. The same seed gives the same. */
export class Traffic {
  readonly #schema: Schema;
  readonly now = 1_700_000_000;

  constructor(schema: Schema) {
    this.#schema = schema;
  }

  user(seed: number, events: number): { readonly user?: Row; readonly context?: Row; readonly history: Row[] } {
    const { spec } = this.#schema;
    const random = new Random(seed, 31);
    const history = Array.from({ length: events }, () => this.#row(random, spec.event));
    if (spec.time) for (let i = events - 1, at = this.now; i >= 0; --i) history[i]!['time'] = at -= 60 + random.below(7200);
    return { ...(spec.user ? { user: this.#row(random, spec.user) } : {}), ...(spec.context ? { context: this.#row(random, spec.context) } : {}), history };
  }

  candidates(seed: number, count: number): Row[] {
    const random = new Random(seed, 32);
    return Array.from({ length: count }, () => this.#row(random, this.#schema.spec.candidate));
  }

  #row(random: Random, features: Features | undefined): Row {
    return Object.fromEntries(Object.entries(features ?? {}).map(([name, f]) => [name, this.#value(random, f)]));
  }

  #value(random: Random, f: Feature): unknown {
    if (f.type === 'numeric') return (f.mean ?? 0) + (f.std ?? 1) * (random.below(2001) / 1000 - 1);
    const size = (f.table === undefined ? f : this.#schema.tables[f.table]!).size!;
    return f.type === 'ids' ? Array.from({ length: random.below(4) }, () => random.below(size)) : random.below(size);
  }
}
