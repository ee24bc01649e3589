import type { LongerConfig } from '../../model/config.ts';
import type { NumericArray } from '../../native/types.ts';
import type { EncodedRequest } from '../../schema/encode.ts';
import { differing, type Prover } from './proof.ts';
import { changeEvents, longest, withLength } from './requests.ts';
import type { Subject } from './subject.ts';
import { bandSize, dependencies, groupOf, type Row, type Rows, rowsOfRequest, wrongLimits } from './visibility.ts';

type Numbers = Exclude<NumericArray, Float64Array>;

/** Merged tokens that a model of any length is looked at with: more than ask, so that a selection shows. */
function lengthFor(c: LongerConfig): number {
  const q = c.queries;
  const asking = q.kind === 'all' ? 20 : q.kind === 'recent+uniform' ? q.recent + q.uniform : q.k;
  return uneven(c, asking + 20);
}

/** Events of so many groups, the oldest of them short. */
const uneven = (c: LongerConfig, groups: number): number => Math.min(c.maxHistory, groups * c.merge - Math.floor(c.merge / 2));

/** For each changed request, stage and row: whether the row has other bits than in the first request. Stages as in `dependencies`. */
async function rowsThatChange(s: Subject, base: EncodedRequest, changed: readonly EncodedRequest[]): Promise<boolean[][][]> {
  const all = [base, ...changed];
  const { arrays, inputs } = await s.prefill(all);
  const keyOffsets = inputs.arrays.get('key.offsets') as Int32Array;
  const { layers, offsets } = await s.layerRows(all);
  const entries = new Map(s.model.cache.map((e) => [e.name, e]));
  const cached = (layer: number): Numbers[] => [arrays.get(`k${layer}`), arrays.get(`v${layer}`)].flatMap((a) => (a ? [a.read()] : []));
  const stages = [{ parts: cached(0), first: keyOffsets }, ...layers.map((rows, l) => ({ parts: [rows, ...cached(l + 1)], first: offsets }))];
  const width = entries.get('k0')!.width;
  const row = (a: Numbers, r: number): Numbers => a.subarray(r * width, (r + 1) * width);
  return changed.map((_, i) =>
    stages.map(({ parts, first }) =>
      Array.from({ length: first[1]! }, (_, r) => parts.some((a) => differing(row(a, r), row(a, first[i + 1]! + r)) > 0))));
}

/** One event changed at a time: the newest two groups and the oldest, event by event, and some between. */
function someEvents(count: number, merge: number): number[] {
  const events = new Set<number>();
  for (let i = 0; i < Math.min(count, 2 * merge); ++i) events.add(count - 1 - i);
  for (let i = 0; i < Math.min(count, merge); ++i) events.add(i);
  for (let i = 1; i < 6; ++i) events.add(Math.floor((i * count) / 6));
  return [...events].filter((e) => e >= 0 && e < count);
}

interface EventStudy {
  readonly rows: Rows;
  readonly events: readonly number[];
  readonly groupOf: (event: number) => number;
  readonly changes: boolean[][][];
}

async function studyEvents(s: Subject, c: LongerConfig): Promise<EventStudy> {
  const { schema } = s.model;
  const base = withLength(schema, longest(s.requests), lengthFor(c));
  const rows = rowsOfRequest(s.model, base);
  const events = someEvents(base.events, c.merge).filter((e) => groupOf(rows, base.events, e) >= 0);
  const changes = await rowsThatChange(s, base, events.map((e) => changeEvents(schema, base, (i) => i === e)));
  return { rows, events, changes, groupOf: (e) => groupOf(rows, base.events, e) };
}

/** Groups of K are counted from the newest event, or from the user's first. */
export const mergeAlignment: Prover = async (s) => {
  const c = s.model.config;
  if (c.kind !== 'longer' || c.maxHistory === 0) return null;
  const { rows, events, groupOf, changes } = await studyEvents(s, c);
  let others = 0;
  let own = 0;
  events.forEach((e, i) => {
    changes[i]![0]!.forEach((changed, r) => {
      const isOwn = rows.keys[r]!.kind === 'token' && rows.keys[r]!.place === groupOf(e);
      if (changed && isOwn) ++own;
      if (changed && !isOwn) ++others;
    });
  });
  return {
    mechanism: 'merge alignment', claim: `an event is in the group of ${c.merge} that its place from the ${c.alignment} gives, and in no other`,
    measured: `${own} of ${events.length} changed events change their group's row; ${others} rows of other groups change`, pass: own === events.length && others === 0,
  };
};

/** Row by row and layer by layer. */
export const noLookAhead: Prover = async (s) => {
  const c = s.model.config;
  if (c.kind !== 'longer' || c.maxHistory === 0) return null;
  const { rows, events, groupOf, changes } = await studyEvents(s, c);
  const allowed = dependencies(rows, c.selfLayers + 1);
  const seen = { checked: 0, early: 0, own: 0, ownMissing: 0 };
  events.forEach((e, i) => {
    const g = groupOf(e);
    for (let stage = 1; stage < allowed.length; ++stage)
      rows.asking.forEach((row, r) => {
        const changed = changes[i]![stage]![r]!;
        if (!allowed[stage]![r]![g]!) {
          ++seen.checked;
          if (changed) ++seen.early;
        } else if (row.kind === 'token' && row.place === g) {
          ++seen.own;
          if (!changed) ++seen.ownMissing;
        }
      });
  });
  const through = c.visibility === 'anchored' ? '; a global that saw the history may pass it on from the second layer' : '';
  return {
    mechanism: 'no look-ahead', claim: `an event changes no row that is older${through}`,
    measured: `${seen.early} of ${seen.checked} older rows change; ${seen.own - seen.ownMissing} of ${seen.own} of its own do`, pass: seen.early === 0 && seen.ownMissing === 0,
  };
};

/** The limits are those of the rule, rows see what they may see, and nothing else. */
export const mask: Prover = async (s) => {
  const c = s.model.config;
  if (c.kind !== 'longer' || c.maxHistory === 0) return null;
  const { schema } = s.model;
  // Long histories for the limits; a few groups for what is seen, where each has weight enough to show in any precision.
  const long = rowsOfRequest(s.model, withLength(schema, longest(s.requests), lengthFor(c)));
  const base = withLength(schema, longest(s.requests), uneven(c, 5));
  const rows = rowsOfRequest(s.model, base);
  const wrong = wrongLimits(long) + wrongLimits(rows);
  const salts = [1, 2, 3, 5];
  const requests = Array.from({ length: rows.groups }, (_, g) => salts.map((salt) => changeEvents(schema, base, (e) => groupOf(rows, base.events, e) === g, salt))).flat();
  const changes = await rowsThatChange(s, base, requests);
  const allowed = dependencies(rows, c.selfLayers + 1);
  const seen = { may: 0, does: 0, mayNot: 0, leaks: 0, blind: 0 };
  for (let stage = 1; stage < allowed.length; ++stage)
    rows.asking.forEach((row, r) => {
      let others = 0;
      let reached = 0;
      for (let g = 0; g < rows.groups; ++g) {
        const changed = salts.some((_, i) => changes[g * salts.length + i]![stage]![r]!);
        if (!allowed[stage]![r]![g]!) {
          ++seen.mayNot;
          if (changed) ++seen.leaks;
        } else if (!isOwn(row, g)) {
          ++others;
          if (changed) ++reached;
        }
      }
      seen.may += others;
      seen.does += reached;
      if (others > 0 && reached === 0) ++seen.blind;
    });
  return {
    mechanism: 'mask', claim: `rows see what ${c.visibility} visibility lets them see, ${c.queries.kind} queries, ${c.window} window`,
    measured: `${wrong} of ${2 * (long.asking.length + rows.asking.length)} limits are wrong; ${seen.does} of ${seen.may} permitted groups change a row, ${seen.leaks} of ${seen.mayNot} others do; ${seen.blind} rows see nothing`,
    // A sharp softmax may round a group away, so most have to show, not each.
    pass: wrong === 0 && seen.leaks === 0 && seen.blind === 0 && 2 * seen.does >= seen.may && rows.asking.length > 0,
  };
};

const isOwn = (row: Row, group: number): boolean => row.kind === 'token' && row.place === group;

/** Which merged tokens ask. */
export const querySelection: Prover = async (s) => {
  const c = s.model.config;
  if (c.kind !== 'longer' || c.maxHistory === 0) return null;
  const rows = rowsOfRequest(s.model, withLength(s.model.schema, longest(s.requests), lengthFor(c)));
  const places = rows.asking.filter((r) => r.kind === 'token').map((r) => r.place);
  const learnable = rows.asking.filter((r) => r.kind === 'query').length;
  const q = c.queries;
  const newest = (k: number, below: number): number[] => Array.from({ length: Math.min(k, below) }, (_, i) => below - Math.min(k, below) + i);
  const same = (a: readonly number[], b: readonly number[]): boolean => a.length === b.length && a.every((x, i) => x === b[i]);
  const even = (list: readonly number[], k: number, below: number): boolean => {
    const gaps = [...list.slice(1), below].map((p, i) => p - list[i]!);
    return list.length === Math.min(k, below) && (list.length === 0 || (list.at(-1) === below - 1 && Math.max(...gaps.slice(0, -1), 1) - Math.min(...gaps.slice(0, -1), Infinity) <= 1));
  };
  const right = (): boolean => {
    if (c.window === 'banded') {
      const size = bandSize(c);
      return same(places, newest(size + ((rows.first + rows.groups - 1) % size) + 1, rows.groups));
    }
    switch (q.kind) {
      case 'all': return same(places, newest(rows.groups, rows.groups));
      case 'recent': return same(places, newest(q.k, rows.groups));
      case 'uniform': return even(places, q.k, rows.groups);
      case 'learnable': return places.length === 0 && learnable === q.k;
      case 'recent+uniform': {
        const border = Math.max(0, rows.groups - q.recent);
        return same(places.filter((p) => p >= border), newest(q.recent, rows.groups)) && even(places.filter((p) => p < border), q.uniform, border);
      }
    }
  };
  return {
    mechanism: 'query selection', claim: `the queries of the hybrid attention are "${q.kind}"`,
    measured: learnable > 0 ? `${learnable} learnable queries` : `${places.length} of ${rows.groups} merged tokens, ${places[0]} .. ${places.at(-1)}`, pass: right(),
  };
};
