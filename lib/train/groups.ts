import { LongerError } from '../errors.ts';
import type { ParameterLayout } from '../graph/lower.ts';
import { nearest } from '../schema/suggest.ts';

/** Rates of some of the parameters. A parameter belongs to the first group that matches it. */
export interface ParameterGroup {
  /** A parameter (`head.0.weight`), a scope (`head`, `layer0.qkv`, `table`) or a pattern in which * stands for anything (`*.bias`). */
  readonly match: string;
  /** Factor of the learning rate, dense or sparse; 0 freezes. Default 1. */
  readonly learningRate?: number;
  /** Factor of the weight decay of every dense parameter of the group. Default 1 for matrices, 0 for biases and gains. */
  readonly weightDecay?: number;
}

/** Factors of the rates that parameters share. The first class of a run has factors of 1. */
export interface RateClass {
  readonly learningRate: number;
  /** Of the weight decay per unit of learning rate: a matrix that learns slower for its width alone decays as fast as any. */
  readonly weightDecay: number;
}

/** The groups of a training run, resolved against the parameters of a model. */
export class ParameterGroups {
  readonly classes: readonly RateClass[];
  readonly #groups: readonly ParameterGroup[];
  readonly #layout: ParameterLayout;
  readonly #classOf = new Map<string, number>();

  /**
   * @param fanInBase weights of linear layers with more inputs than this learn slower in proportion (TrainOptions.dense); 0: all alike
   * @throws LongerError ERR_CONFIG for a pattern that matches no parameter, a factor below 0, or weight decay of tables alone
   */
  constructor(layout: ParameterLayout, groups: readonly ParameterGroup[] = [], fanInBase = 0) {
    this.#groups = groups;
    this.#layout = layout;
    const names = [...layout.dense.keys(), ...layout.tables.keys()];
    groups.forEach((group, i) => {
      const place = `train.groups[${i}]`;
      for (const key of ['learningRate', 'weightDecay'] as const) {
        const value = group[key] ?? 1;
        if (!(Number.isFinite(value) && value >= 0)) throw new LongerError('ERR_CONFIG', `expected a factor of at least 0, got ${value}`, { place: `${place}.${key}` });
      }
      const unknown = Object.keys(group).find((key) => !['match', 'learningRate', 'weightDecay'].includes(key));
      if (unknown !== undefined) throw new LongerError('ERR_CONFIG', `unknown key '${unknown}'`, { place, remedy: 'Known: match, learningRate, weightDecay' });
      if (typeof group.match !== 'string') throw new LongerError('ERR_CONFIG', 'expected a parameter name, scope or pattern', { place: `${place}.match` });
      if (!names.some((name) => matches(group, name))) {
        const guess = nearest(group.match, [...new Set(names.flatMap(prefixes))]);
        throw new LongerError('ERR_CONFIG', `no parameter matches '${group.match}'${guess ? `; did you mean '${guess}'?` : ''}`, { place: `${place}.match`, remedy: '`longer inspect` lists the parameters' });
      }
      if (group.weightDecay !== undefined && ![...layout.dense.keys()].some((name) => matches(group, name)))
        throw new LongerError('ERR_CONFIG', `'${group.match}' matches embedding tables only, which have no weight decay`, { place: `${place}.weightDecay` });
    });
    const classes: RateClass[] = [{ learningRate: 1, weightDecay: 1 }];
    const assign = (name: string, width: number): void => {
      const learningRate = (this.#group(name)?.learningRate ?? 1) * width;
      const weightDecay = 1 / width;
      let at = classes.findIndex((c) => c.learningRate === learningRate && c.weightDecay === weightDecay);
      if (at < 0) at = classes.push({ learningRate, weightDecay }) - 1;
      this.#classOf.set(name, at);
    };
    for (const [name, { shape }] of layout.dense) assign(name, fanInBase > 0 && name.endsWith('.weight') ? Math.min(1, fanInBase / shape[0]!) : 1);
    for (const name of layout.tables.keys()) assign(name, 1);
    this.classes = classes;
  }

  /** Number of the parameter's class. */
  of(name: string): number {
    return this.#classOf.get(name)!;
  }

  /** Runs of dense parameters of one class that lie side by side: element offset and size in the flat buffer. */
  denseRuns(): { readonly rates: number; readonly offset: number; readonly size: number }[] {
    const starts: { rates: number; offset: number }[] = [];
    for (const [name, { offset }] of this.#layout.dense) {
      const rates = this.of(name);
      if (starts.at(-1)?.rates !== rates) starts.push({ rates, offset });
    }
    return starts.map((s, i) => ({ ...s, size: (starts[i + 1]?.offset ?? this.#layout.denseSize) - s.offset }));
  }

  /** Factor of the weight decay of every dense element: the contents of the store `dense.decay`. */
  decay(): Float32Array {
    const mask = new Float32Array(this.#layout.denseSize);
    for (const [name, { offset, shape, value }] of this.#layout.dense) {
      const factor = this.#group(name)?.weightDecay ?? (value.parameter!.decay ? 1 : 0);
      mask.fill(factor, offset, offset + shape.reduce((a, b) => a * b, 1));
    }
    return mask;
  }

  #group(name: string): ParameterGroup | undefined {
    return this.#groups.find((group) => matches(group, name));
  }
}

function matches({ match }: ParameterGroup, name: string): boolean {
  const pattern = match.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&')).join('.*');
  return new RegExp(`^${pattern}(\\..*)?$`).test(name);
}

/** head.0.weight: head, head.0, head.0.weight */
function prefixes(name: string): string[] {
  const parts = name.split('.');
  return parts.map((_, i) => parts.slice(0, i + 1).join('.'));
}
