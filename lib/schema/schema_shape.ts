import type { Feature, IdFeature, IdsFeature, NumericFeature } from './features.ts';
import { list, map, number, object, oneOf, text, truth, variants, whole } from './shape.ts';
import type { SchemaSpec, TableSpec } from './spec.ts';

/** What a request schema may hold; how its parts fit together is checked where it is built. */
const size = whole({ min: 1, max: 2 ** 31 - 1 });
const table = { table: text(), size, width: size, hash: truth(), optional: truth() };
const features = map<Feature>(variants<Feature>('type', {
  id: object<IdFeature>({ type: oneOf('id'), ...table }, ['table', 'size', 'width', 'hash', 'optional']),
  ids: object<IdsFeature>({ type: oneOf('ids'), ...table, pooling: oneOf('sum', 'mean') }, ['table', 'size', 'width', 'hash', 'optional']),
  numeric: object<NumericFeature>(
    { type: oneOf('numeric'), mean: number(), std: number({ above: 0 }), boundaries: list(number()), width: size, optional: truth() },
    ['mean', 'std', 'boundaries', 'width', 'optional'],
  ),
}));

export const schemaShape = object<SchemaSpec>(
  {
    tables: map(object<TableSpec>({ size, width: size, hash: truth() }, ['hash'])),
    user: features, context: features, event: features, candidate: features,
    labels: map(object<{ readonly weight?: number }>({ weight: number({ min: 0 }) }, ['weight'])),
    time: truth(),
    catalog: text(),
  },
  ['tables', 'user', 'context', 'catalog'],
);
