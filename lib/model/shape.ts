import { LongerError } from '../errors.ts';
import { list, number, object, oneOf, orNull, type Shape, text, truth, variants, whole } from '../schema/shape.ts';
import { type BaselineConfig, groupCount, type LongerConfig, type ModelConfig, queryCount, type QuerySelection } from './config.ts';

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

/** @throws LongerError ERR_CONFIG that names the setting, for a value that no model can be built from. */
export function checkConfig(config: ModelConfig): void {
  modelShape.check(config, 'model', 'ERR_CONFIG');
  if (config.kind !== 'longer') return;
  const fail = (place: string, message: string): never => {
    throw new LongerError('ERR_CONFIG', message, { place: `model.${place}` });
  };
  if ((config.width * config.merge) % config.heads !== 0)
    fail('heads', `the width after merging, ${config.width * config.merge}, is not divisible by ${config.heads} heads`);
  if (config.alignment === 'oldest' && config.maxHistory > 0 && groupCount(config) === 0)
    fail('maxHistory', `groups counted from the oldest event are kept whole, and ${config.maxHistory} events hold none of ${config.merge}`);
  if (config.head.kind === 'flatten' && queryCount(config) === 0) fail('head.kind', `no history row asks, so there is nothing to flatten`);
  if (config.window === 'banded') checkBands(config, fail);
  if (config.width % config.inner.heads !== 0) fail('inner.heads', `the event width ${config.width} is not divisible by ${config.inner.heads} heads`);
}

/** A banded row's keys are counted from the oldest event, and nothing that it sees may depend on the history's length. */
function checkBands(config: LongerConfig, fail: (place: string, message: string) => never): void {
  if (config.alignment !== 'oldest') fail('window', `bands are counted from the oldest event: 'banded' needs alignment 'oldest'`);
  if (config.visibility !== 'paper') fail('window', `user-side globals see the whole history: 'banded' needs visibility 'paper'`);
  if (config.queries.kind !== 'recent' && config.queries.kind !== 'all') fail('window', `'banded' needs queries 'recent' or 'all', got '${config.queries.kind}'`);
  if (queryCount(config) < 2) fail('window', `two bands ask: 'banded' needs queries for 2 groups at least, got ${queryCount(config)}`);
}
