import type { Catalog } from '../data/catalog.ts';
import type { Feature, Features } from '../schema/features.ts';
import type { Schema } from '../schema/schema.ts';

type Json = Record<string, unknown>;

function valueOf(f: Feature, tables: Schema['tables']): Json {
  if (f.type === 'numeric') return { type: f.optional ? ['number', 'null'] : 'number' };
  const table = f.table === undefined ? f : tables[f.table]!;
  const one: Json = table.hash ? { type: ['integer', 'string'] } : { type: 'integer', minimum: 0, maximum: table.size! - 1 };
  if (f.type === 'ids') return { type: 'array', items: one };
  return f.optional ? { ...one, type: [one['type'], 'null'].flat() } : one;
}

function rowOf(features: Features | undefined, tables: Schema['tables'], time = false): Json {
  const entries = Object.entries(features ?? {});
  return {
    type: 'object',
    properties: { ...Object.fromEntries(entries.map(([name, f]) => [name, valueOf(f, tables)])), ...(time ? { time: { type: 'number', description: 'seconds' } } : {}) },
    required: [...entries.filter(([, f]) => !f.optional && f.type !== 'ids').map(([name]) => name), ...(time ? ['time'] : [])],
  };
}

/** A row in a log's terms, whose key may stand alone. */
function logRow([key, ...others]: readonly string[], alone: boolean): Json {
  const cell = { type: ['string', 'number', 'boolean', 'array', 'null'] };
  const row: Json = { type: 'object', properties: { [key!]: { type: ['string', 'number'] }, ...Object.fromEntries(others.map((c) => [c, cell])) }, required: [key], additionalProperties: false };
  return alone ? { anyOf: [{ type: ['string', 'number'] }, row] } : row;
}

/** Events of a user as JSON, oldest first. */
export function eventsSchema({ spec, tables }: Schema, catalog?: Catalog): Json {
  return { type: 'array', items: catalog ? logRow(catalog.columns.event, false) : rowOf(spec.event, tables, spec.time) };
}

/** The JSON Schema of what POST /v1/rank takes. */
export function rankBodySchema(schema: Schema, maxCandidates: number, catalog?: Catalog): Json {
  const { spec, tables } = schema;
  const sides = { ...(spec.user ? { user: catalog ? logRow(catalog.columns.user, true) : rowOf(spec.user, tables) } : {}), ...(spec.context ? { context: rowOf(spec.context, tables) } : {}) };
  return {
    type: 'object',
    properties: {
      ...sides,
      ...(spec.time ? { time: catalog ? { type: ['number', 'string'], description: 'seconds, or a timestamp' } : { type: 'number', description: 'seconds' } } : {}),
      history: eventsSchema(schema, catalog),
      historyStart: { type: 'integer', minimum: 0, description: 'events that the user had before the first that is given' },
      userId: { type: 'string', description: 'whose stored history is used where none is given' },
      candidates: { type: 'array', maxItems: maxCandidates, items: catalog ? logRow(catalog.columns.candidate, true) : rowOf(spec.candidate, tables) },
      tasks: { type: 'array', items: { enum: schema.tasks.map((t) => t.name) } },
      topK: { type: 'integer', minimum: 1 },
      reuse: { type: 'boolean', description: 'false: nobody will ask with this history again' },
      explain: { type: 'integer', minimum: 1, description: 'events that are told of each candidate in the answer' },
      id: { type: ['string', 'number'], description: 'of the caller; not read' },
    },
    required: [...Object.keys(sides), ...(spec.time ? ['time'] : []), 'candidates'],
    additionalProperties: false,
  };
}

/** The JSON Schema of its answer. */
export function rankReplySchema(schema: Schema): Json {
  const numbers = { type: 'array', items: { type: 'number' } };
  const byTask = { type: 'object', properties: Object.fromEntries(schema.tasks.map((t) => [t.name, numbers])) };
  return {
    type: 'object',
    properties: {
      model: { type: 'string' }, cache: { enum: ['hit', 'grown', 'miss'] },
      index: { type: 'array', items: { type: 'integer' }, description: 'places in the candidate list, best first' },
      logits: byTask, probabilities: byTask,
      explanations: {
        type: 'array', description: 'where they were asked for, in the order of index',
        items: {
          type: 'object',
          properties: {
            events: { type: 'array', items: { type: 'integer' }, description: 'places in the history, those with most mass first' },
            mass: numbers, rest: { type: ['number', 'null'], description: 'what no event has; null for DIN' },
          },
        },
      },
    },
  };
}
