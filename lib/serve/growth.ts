import { firstKept, type HistoryForm } from '../data/batch.ts';
import { agreement, type Events } from '../rank/content.ts';
import { type EncodedRequest, encodeGrowth, NumberLists } from '../schema/encode.ts';
import type { Schema } from '../schema/schema.ts';

/** A request without its candidates and without the events that no cache of a grown history can need. */
export function trimmed(schema: Schema, form: HistoryForm, request: EncodedRequest): EncodedRequest {
  return encodeGrowth(schema, request, { time: request.time, history: [] }, Math.max(0, firstKept(schema, form, request) - 1 - request.historyStart));
}

/**
 * How many events a request has beyond a cached one. Undefined where the cache cannot go on to it: an event in common differs, the cache
 * was made of events that the request does not bring, or the two would keep another first event.
 * @param past as `trimmed` left it
 */
export function newEvents(schema: Schema, form: HistoryForm, past: EncodedRequest, now: EncodedRequest): number | undefined {
  const before = past.historyStart - now.historyStart;
  const added = now.events - past.events - before;
  if (before < 0 || added < 0 || now.time < past.time) return undefined;
  const grown = { historyStart: past.historyStart, events: past.events + added };
  if (firstKept(schema, form, grown) !== firstKept(schema, form, now)) return undefined;
  const [a, b] = [eventsOf(past), eventsOf(now)];
  return agreement(a, b, a.start) === a.end ? added : undefined;
}

const eventsOf = ({ historyStart, events, event, eventTime }: EncodedRequest): Events => ({ start: historyStart, end: historyStart + events, event, eventTime });

/** The newest rows of a history as the caller gave it: a list of events, or columns. */
export function newestRows(history: unknown, rows: number): unknown {
  if (Array.isArray(history)) return history.slice(history.length - rows);
  return Object.fromEntries(Object.entries(history as Record<string, unknown>).map(([name, column]) => [name, newestOf(column, rows)]));
}

function newestOf(column: unknown, rows: number): unknown {
  if (column instanceof NumberLists) {
    const offsets = column.offsets.slice(column.length - rows);
    return new NumberLists(offsets.map((o) => o - offsets[0]!), column.values.subarray(offsets[0]!));
  }
  const list = column as unknown[] | undefined | null;
  return list && list.slice(Math.max(0, list.length - rows)); // a missing optional column stays so
}
