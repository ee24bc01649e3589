import { type Dim, fixed, plus, symbol } from '../graph/dim.ts';
import { type Graph, type Value, widthOf } from '../graph/graph.ts';
import { concat } from '../graph/ops/concat.ts';
import { embed, type EmbedField } from '../graph/ops/embed.ts';
import type { NormKind } from '../graph/ops/norm.ts';
import { timeBucket } from '../graph/ops/time_bucket.ts';
import type { Schema } from '../schema/schema.ts';
import type { LongerConfig } from './config.ts';
import { normalise } from './layers.ts';

export type Side = 'user' | 'context' | 'event' | 'candidate';

const rowsOfSide: Readonly<Record<Side, Dim>> = {
  user: symbol('requests'),
  context: symbol('requests'),
  event: symbol('events'),
  candidate: symbol('candidates'),
};

/** Standard deviation of a fresh embedding row's numbers. */
const tableStd = 0.1;

function table(graph: Graph, name: string, size: number, width: number): Value {
  return graph.parameter(`table.${name}`, [size, width], { init: { kind: 'normal', std: tableStd }, decay: false, sparse: true });
}

function sideFields(graph: Graph, schema: Schema, side: Side, columns: (feature: string, width: number) => number | null): EmbedField[] {
  const rows = rowsOfSide[side];
  const fields: EmbedField[] = [];
  for (const f of schema.sides[side].fields) {
    const column = columns(f.name, f.width);
    if (column === null) continue;
    const multi = f.kind === 'ids';
    const name = `${side}.${f.name}`;
    fields.push({
      table: table(graph, f.table, schema.tables[f.table]!.size, f.width),
      ids: graph.input(name, 'i32', [multi ? symbol(`${name}.ids`) : rows]),
      offsets: multi ? graph.input(`${name}.offsets`, 'i32', [{ constant: 1, terms: rows.terms }]) : null,
      pooling: multi ? f.pooling : 'none',
      column,
    });
  }
  return fields;
}

function numericInput(graph: Graph, schema: Schema, side: Side): Value | null {
  const count = schema.sides[side].numericCount;
  return count > 0 ? graph.input(`${side}.numeric`, 'f32', [rowsOfSide[side], fixed(count)]) : null;
}

function beside(graph: Graph, x: Value | null, numeric: Value | null): Value | null {
  if (!numeric) return x;
  return x ? concat(graph, x, numeric) : asTemporary(graph, numeric);
}

/** An input becomes a computed value (a one-part concat), so that it can be an output of a prefill graph. */
function asTemporary(graph: Graph, input: Value): Value {
  const y = graph.like(input, 'copy');
  graph.emit({ name: 'concat' }, [input], [y]);
  return y;
}

/** Features of one side, a row each of what they describe; null where the schema has none of the kind. */
export interface SideFeatures {
  readonly side: Side;
  /** [rows, sum of the widths] */
  readonly embedded: Value | null;
  /** [rows, count], standardised by the schema */
  readonly numeric: Value | null;
}

export function sideFeatures(graph: Graph, schema: Schema, side: Side): SideFeatures {
  return graph.scope(side, () => {
    let width = 0;
    const fields = sideFields(graph, schema, side, (_, w) => (width += w) - w);
    return { side, embedded: fields.length > 0 ? embed(graph, rowsOfSide[side], width, fields) : null, numeric: numericInput(graph, schema, side) };
  });
}

/** All features side by side, or null where there are none: [rows, width]. */
export function sideVector(graph: Graph, { side, embedded, numeric }: SideFeatures): Value | null {
  return graph.scope(side, () => beside(graph, embedded, numeric));
}

/**
 * The same as the head reads it: embeddings normalised together, so that rows of all lengths weigh alike beside the model's normalised output. (Rows of frequent
 * ids grow, and the head would follow their length first.)
 */
export function headVector(graph: Graph, { side, embedded, numeric }: SideFeatures, kind: NormKind): Value | null {
  return graph.scope('head', () => {
    // A single column has nothing to be normalised by.
    const known = embedded && widthOf(embedded) > 1 ? normalise(graph, `head.${side}_norm`, embedded, kind) : embedded;
    return beside(graph, known, numeric);
  });
}

export interface EventOptions {
  readonly maxHistory: number;
  readonly timeGap: LongerConfig['timeGap'];
  /** Groups are counted from the oldest event: the events of a request are two segments (model/layout.ts). */
  readonly alignment?: 'newest' | 'oldest';
  /** Learned position, added to the item part (spec 2.4). */
  readonly position: boolean;
}

/** Where the segments of a batch's events begin, and how many a request has: with groups counted from the oldest, whole groups and what is left. */
export function eventSegments(graph: Graph, alignment: EventOptions['alignment']): { readonly offsets: Value; readonly count: Dim } {
  const oldest = alignment === 'oldest';
  const count = symbol('requests', oldest ? 2 : 1);
  return { count, offsets: graph.input(oldest ? 'event.parts' : 'event.offsets', 'i32', [plus(count, fixed(1))]) };
}

/** Columns of an event row: item and side features, then the time gap's, then numeric ones. */
function eventColumns(schema: Schema, options: EventOptions): { of: Map<string, { column: number; table: string }>; base: number; width: number } {
  const of = new Map<string, { column: number; table: string }>();
  let base = 0;
  for (const f of schema.sides.event.fields) {
    of.set(f.name, { column: base, table: f.table });
    base += f.width;
  }
  return { of, base, width: base + (schema.time ? options.timeGap.width : 0) };
}

/** Event rows before the token MLP: [events, base + time gap + numeric]. Position is added over the item part, the time gap concatenated. */
export function eventVector(graph: Graph, schema: Schema, options: EventOptions): Value {
  return graph.scope('event', () => {
    const { of, base, width } = eventColumns(schema, options);
    const fields = sideFields(graph, schema, 'event', (name) => of.get(name)!.column);
    if (options.position)
      fields.push({ table: table(graph, 'position', Math.max(1, options.maxHistory), base), ids: graph.input('event.position', 'i32', [symbol('events')]), column: 0 });
    if (schema.time) {
      const { buckets, width: gapWidth } = options.timeGap;
      fields.push({ table: table(graph, 'time_gap', buckets, gapWidth), ids: gapBuckets(graph, options), column: base });
    }
    return beside(graph, embed(graph, symbol('events'), width, fields), numericInput(graph, schema, 'event'))!;
  });
}

/** Bucket of each event's gap: to its request, or to the event before (model/layout.ts has those). */
function gapBuckets(graph: Graph, { timeGap, alignment }: EventOptions): Value {
  if (timeGap.to === 'previous') return graph.input('event.gap_bucket', 'i32', [symbol('events')]);
  const { offsets, count } = eventSegments(graph, alignment);
  return timeBucket(
    graph,
    graph.input('event.time', 'f64', [symbol('events')]),
    graph.input(alignment === 'oldest' ? 'part.time' : 'request.time', 'f64', [count]),
    offsets,
    graph.input('time.boundaries', 'f64', [fixed(timeGap.buckets - 1)]),
  );
}

/**
 * The candidate as if it were an event: features that it shares with events (same name, same table) in their columns,
 * zeros elsewhere. [candidates, the width of eventVector]; null where nothing is shared.
 */
export function candidateAsEvent(graph: Graph, schema: Schema, options: EventOptions): Value | null {
  return graph.scope('candidate_as_event', () => {
    const { of, width } = eventColumns(schema, options);
    const tableOf = new Map(schema.sides.candidate.fields.map((f) => [f.name, f.table]));
    const fields = sideFields(graph, schema, 'candidate', (name) => {
      const event = of.get(name);
      return event && event.table === tableOf.get(name) ? event.column : null;
    });
    if (fields.length === 0) return null;
    return embed(graph, symbol('candidates'), width + schema.sides.event.numericCount, fields);
  });
}

/** Integer boundaries ceil(2^(j/2)) seconds, made strictly ascending: floor(log2) differs between math libraries, integers do not. */
export function timeBoundaries(buckets: number): Float64Array {
  const boundaries = new Float64Array(buckets - 1);
  let last = 0;
  for (let j = 0; j < buckets - 1; ++j) {
    const half = Math.floor(j / 2);
    // 2^(j/2) exactly for even j; for odd j the integer square root of 2^j, rounded up.
    const value = j % 2 === 0 ? 2 ** half : ceilSqrtOfTwoTo(j);
    last = Math.max(last + 1, value);
    boundaries[j] = last;
  }
  return boundaries;
}

function ceilSqrtOfTwoTo(j: number): number {
  const target = 1n << BigInt(j);
  let low = 1n << BigInt(Math.floor(j / 2));
  let high = low * 2n;
  while (low < high) {
    const middle = (low + high) / 2n;
    if (middle * middle >= target) high = middle;
    else low = middle + 1n;
  }
  return Number(low);
}
