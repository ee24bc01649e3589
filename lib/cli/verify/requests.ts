import { Random } from '../../data/random.ts';
import { LongerError } from '../../errors.ts';
import type { EncodedRequest, EncodedSide } from '../../schema/encode.ts';
import type { Schema, Side } from '../../schema/schema.ts';

/** Random requests of any schema: ids drawn from all rows of their tables, times some minutes to hours apart. The same seed gives the same ones. */
export function madeRequests(schema: Schema, lengths: readonly number[], candidateCounts: readonly number[], seed = 1): EncodedRequest[] {
  return lengths.map((events, r) => {
    const random = new Random(seed, r);
    const side = (name: Side, rows: number): EncodedSide => madeSide(schema, name, rows, random);
    const candidates = candidateCounts[r % candidateCounts.length]!;
    const time = schema.time ? 1_700_000_000 : 0;
    const eventTime = new Float64Array(schema.time ? events : 0);
    for (let i = eventTime.length - 1, at = time; i >= 0; --i) eventTime[i] = at -= 60 + random.below(7200);
    return {
      schema: schema.hash, id: `r${r}`, userKey: `r${r}`, user: side('user', 1), context: side('context', 1), event: side('event', events), events, historyStart: 0, eventTime, time,
      candidate: side('candidate', candidates), candidates,
      labels: Float32Array.from({ length: candidates * schema.tasks.length }, () => random.below(2)),
    };
  });
}

function madeSide(schema: Schema, name: Side, rows: number, random: Random): EncodedSide {
  const { fields, numericCount } = schema.sides[name];
  const ids = new Map<string, Int32Array>();
  const offsets = new Map<string, Int32Array>();
  for (const f of fields) {
    const { size } = schema.tables[f.table]!;
    let count = rows;
    if (f.kind === 'ids') {
      const first = new Int32Array(rows + 1);
      for (let i = 0; i < rows; ++i) first[i + 1] = first[i]! + random.below(4);
      offsets.set(f.name, first);
      count = first[rows]!;
    }
    ids.set(f.name, Int32Array.from({ length: count }, () => random.below(size)));
  }
  return { ids, offsets, numeric: Float32Array.from({ length: rows * numericCount }, () => random.normal()) };
}

/** The rows of a side that `rows` names, in that order. */
function picked(side: EncodedSide, numericCount: number, rows: readonly number[]): EncodedSide {
  const ids = new Map<string, Int32Array>();
  const offsets = new Map<string, Int32Array>();
  for (const [name, all] of side.ids) {
    const from = side.offsets.get(name);
    if (!from) {
      ids.set(name, Int32Array.from(rows, (r) => all[r]!));
      continue;
    }
    ids.set(name, Int32Array.from(rows.flatMap((r) => [...all.subarray(from[r]!, from[r + 1]!)])));
    const first = new Int32Array(rows.length + 1);
    rows.forEach((r, i) => { first[i + 1] = first[i]! + from[r + 1]! - from[r]!; });
    offsets.set(name, first);
  }
  return { ids, offsets, numeric: Float32Array.from(rows.flatMap((r) => [...side.numeric.subarray(r * numericCount, (r + 1) * numericCount)])) };
}

/** The same side with other ids and numbers in the rows that `which` names. `salt` >= 1 gives different changes. */
function changed(schema: Schema, name: Side, side: EncodedSide, which: (row: number) => boolean, salt: number): EncodedSide {
  const { fields, numericCount } = schema.sides[name];
  const ids = new Map(side.ids);
  for (const f of fields) {
    const { size } = schema.tables[f.table]!;
    if (size < 2) continue;
    const step = 1 + ((salt - 1) % (size - 1));
    const from = side.offsets.get(f.name);
    const column = Int32Array.from(side.ids.get(f.name)!);
    const rows = from ? from.length - 1 : column.length;
    for (let r = 0; r < rows; ++r) if (which(r)) for (let i = from ? from[r]! : r; i < (from ? from[r + 1]! : r + 1); ++i) column[i] = (Math.max(0, column[i]!) + step) % size;
    ids.set(f.name, column);
  }
  const numeric = side.numeric.map((x, i) => (which(Math.floor(i / numericCount)) ? x + salt : x));
  return { ...side, ids, numeric };
}

/** The request with other events where `which` says so; times stay. Event 0 is the oldest. */
export function changeEvents(schema: Schema, r: EncodedRequest, which: (event: number) => boolean, salt = 1): EncodedRequest {
  return { ...r, event: changed(schema, 'event', r.event, which, salt) };
}

export function changeCandidates(schema: Schema, r: EncodedRequest, which: (candidate: number) => boolean, salt = 1): EncodedRequest {
  return { ...r, candidate: changed(schema, 'candidate', r.candidate, which, salt) };
}

/** The request with `events` of its events, the newest first taken; where it has fewer they come again, further back in time. */
export function withLength(schema: Schema, r: EncodedRequest, events: number): EncodedRequest {
  if (events > 0 && r.events === 0) throw new LongerError('ERR_DATA', 'no request has a history', { remedy: 'Verify with requests of users who did something' });
  const rows = Array.from({ length: events }, (_, i) => r.events - 1 - ((events - 1 - i) % r.events));
  const span = schema.time && r.events > 0 ? r.eventTime[r.events - 1]! - r.eventTime[0]! + 1 : 0;
  const eventTime = schema.time ? Float64Array.from(rows, (row, i) => r.eventTime[row]! - span * Math.floor((events - 1 - i) / r.events)) : r.eventTime;
  return { ...r, events, historyStart: 0, eventTime, event: picked(r.event, schema.sides.event.numericCount, rows) };
}

/** The request with the candidates that `rows` names, in that order. */
export function withCandidates(schema: Schema, r: EncodedRequest, rows: readonly number[]): EncodedRequest {
  const tasks = schema.tasks.length;
  return {
    ...r, candidates: rows.length, candidate: picked(r.candidate, schema.sides.candidate.numericCount, rows),
    labels: Float32Array.from(rows.flatMap((c) => [...r.labels.subarray(c * tasks, (c + 1) * tasks)])),
  };
}

/** The longest history of all. */
export function longest(requests: readonly EncodedRequest[]): EncodedRequest {
  return requests.reduce((a, b) => (b.events > a.events ? b : a));
}
