import { list, number, object, oneOf, orNull, type Shape, text, truth, variants, whole } from '../schema/shape.ts';
import type { BaselineConfig, LongerConfig, ModelConfig, QuerySelection } from './config.ts';

/** What settings of a model may be: the check of a description and of a config file. The compiler holds the keys to the types of the options. */

const positive = number({ above: 0 });
const share = number({ min: 0, below: 1 });
const gapSizes = { buckets: whole({ min: 2 }), width: whole({ min: 1 }) };

const count = whole({ min: 1 });
const queries = variants<QuerySelection>('kind', {
  recent: object<QuerySelection & { kind: 'recent' }>({ kind: oneOf('recent'), k: count }),
  uniform: object<QuerySelection & { kind: 'uniform' }>({ kind: oneOf('uniform'), k: count }),
  learnable: object<QuerySelection & { kind: 'learnable' }>({ kind: oneOf('learnable'), k: count }),
  'recent+uniform': object<QuerySelection & { kind: 'recent+uniform' }>({ kind: oneOf('recent+uniform'), recent: count, uniform: count }),
  all: object<QuerySelection & { kind: 'all' }>({ kind: oneOf('all') }),
});

const longer = object<LongerConfig>({
  kind: oneOf('longer'),
  maxHistory: whole({ min: 0 }),
  width: count,
  merge: count,
  inner: object<LongerConfig['inner']>({ blocks: whole({ min: 0 }), heads: count }),
  queries,
  selfLayers: whole({ min: 0 }),
  heads: count,
  visibility: oneOf('paper', 'anchored'),
  window: oneOf('full', 'banded'),
  globals: object<LongerConfig['globals']>({ uid: orNull(text()), cls: whole({ min: 0 }) }),
  norm: oneOf('layer', 'rms'),
  ffn: oneOf('gelu', 'swiglu'),
  gate: truth(),
  dropout: share,
  timeGap: object<LongerConfig['timeGap']>({ to: oneOf('request', 'previous'), ...gapSizes }, ['to']),
  alignment: oneOf('newest', 'oldest'),
  position: oneOf('recency', 'ordinal'),
  candidateEncoder: oneOf('shared', 'own'),
  head: object<LongerConfig['head']>({ kind: oneOf('pooled', 'flatten'), hidden: list(count) }),
  attentionGain: positive,
});

const baseline = <K extends BaselineConfig['kind']>(kind: K): Shape<BaselineConfig> =>
  object<BaselineConfig>({
    kind: oneOf(kind), maxHistory: whole({ min: 0 }), width: count, timeGap: object<BaselineConfig['timeGap']>(gapSizes),
    head: object<BaselineConfig['head']>({ kind: oneOf('pooled'), hidden: list(count) }), unit: list(count),
  });

export const modelShape = variants<ModelConfig>('kind', {
  longer, base: baseline('base'), 'sum-pooling': baseline('sum-pooling'), din: baseline('din'),
});
