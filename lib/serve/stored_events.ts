import { LongerError } from '../errors.ts';
import { type EncodedEvents, encodeGrowth, encodeRequest } from '../schema/encode.ts';
import { show } from '../schema/fail.ts';
import { expectSchema, Schema } from '../schema/schema.ts';
import { lastTime } from '../schema/times.ts';

/** An event as the schema types it, with its time where the schema has time. */
export type StoredEvent = Readonly<Record<string, unknown>>;

/**
 * Checks events against the event side of a schema, whenever their request will be. @throws LongerError ERR_DATA, `history[3].item` standing last in its place
 * @param past what was encoded of the events in front of these; its first `dropped` go
 */
export type EventEncoder = (events: readonly StoredEvent[], historyStart?: number, past?: { readonly events: EncodedEvents; readonly dropped: number }) => EncodedEvents;

export function eventEncoder(schema: Schema): EventEncoder {
  expectSchema(schema);
  const { tables, event, labels, time } = schema.spec;
  const alone = new Schema({ ...(tables ? { tables } : {}), event, candidate: {}, labels, time });
  const request = { time: lastTime, candidates: [] };
  const none = encodeRequest(alone, { ...request, history: [] } as never);
  return (events, historyStart = 0, past) => {
    const all = past ? encodeGrowth(alone, { ...none, ...past.events }, { ...request, history: events }, past.dropped) : encodeRequest(alone, { ...request, history: events, historyStart } as never);
    return { event: all.event, events: all.events, historyStart: all.historyStart, eventTime: all.eventTime };
  };
}

/** @throws LongerError ERR_DATA where a new event lies before the last that is stored */
export function checkOrder(last: StoredEvent | undefined, first: StoredEvent | undefined): void {
  if (!last || !first || Number(first['time']) >= Number(last['time'])) return;
  throw new LongerError('ERR_DATA', `time goes backwards: ${String(first['time'])} after ${String(last['time'])}`, {
    place: 'events[0].time', remedy: 'Events are appended oldest first; replace the history to correct it',
  });
}

/** @throws LongerError ERR_DATA: 5 and '5' would be two users */
export function checkUser(user: unknown, place: string): void {
  if (typeof user !== 'string') throw new LongerError('ERR_DATA', `expected a text, got ${show(user)}`, { place, remedy: 'Users are named by strings: String(id)' });
}

/** @throws LongerError ERR_CONFIG naming the limit of a store */
export function checkLimit(place: string, value: number): void {
  if (!Number.isSafeInteger(value) || value < 1) throw new LongerError('ERR_CONFIG', `expected a whole number of at least 1, got ${value}`, { place });
}

/**
 * Holds events to the event side of a schema. @returns what gives them as they are stored, a Date in seconds, and throws LongerError ERR_DATA naming event and
 * feature, `events[3].item`
 */
export function eventCheck(schema: Schema): (events: readonly StoredEvent[]) => readonly StoredEvent[] {
  const encode = eventEncoder(schema);
  const { fields, numeric } = schema.sides.event;
  const names = [...fields, ...numeric].map((f) => f.name);
  /** A copy: the caller's objects may change. */
  const kept = (event: StoredEvent): StoredEvent => {
    const copy: Record<string, unknown> = { ...event };
    for (const name of names) if (typeof event[name] === 'object' && event[name] !== null) copy[name] = [...(event[name] as Iterable<unknown>)];
    if (schema.time && event['time'] instanceof Date) copy['time'] = event['time'].getTime() / 1000;
    return copy;
  };
  return (events) => {
    if (!Array.isArray(events)) throw new LongerError('ERR_DATA', 'expected a list of events', { place: 'events' });
    try {
      encode(events);
    } catch (error) {
      throw error instanceof LongerError ? ofEvents(error) : error;
    }
    return (events as readonly StoredEvent[]).map(kept);
  };
}

/** The caller gave `events`, which stood for a request's history while they were checked. */
function ofEvents({ code, reason, place = '', remedy }: LongerError): LongerError {
  return new LongerError(code, reason, { place: place.replace(/^request: history/, 'events'), ...(remedy === undefined ? {} : { remedy }) });
}
