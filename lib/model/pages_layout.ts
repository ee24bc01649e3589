import { packBatch } from '../data/batch.ts';
import type { NumericArray } from '../native/types.ts';
import type { EncodedRequest } from '../schema/encode.ts';
import type { Schema } from '../schema/schema.ts';
import { holding, type Reuse } from './append.ts';
import { groupCount, historyForm, type LongerConfig, type ModelConfig, queryCount } from './config.ts';
import { layoutHistory, type ModelInputs, rowArrays } from './layout.ts';
import { isKeyOrValue } from './longer.ts';
import type { PagedEntry } from './pages.ts';
import { anchorCount, historyRows, type Known, running, type Segment, segmentsOf, type Window, windowOf } from './visibility.ts';

/** Rows `first` to `first + count - 1` of one request, by ordinals that stay when the history grows. */
export interface Rows {
  readonly first: number;
  readonly count: number;
}

/** The rows of a request's cache: of merged tokens and of rows that ask. */
export interface CacheRows {
  readonly keys: Rows;
  readonly asking: Rows;
}

/** Of a request that is cached: its merged tokens (of a baseline: its events), and the pages of each paged value, page i of them holding the rows from ordinal (floor(first / p) + i) * p on. */
export interface Chain {
  readonly window: Window;
  readonly rows: CacheRows;
  readonly pages: ReadonlyMap<string, Int32Array>;
}

/** How many pages hold rows. */
export function pagesOf({ first, count }: Rows, pageRows: number): number {
  return count === 0 ? 0 : Math.floor((first + count - 1) / pageRows) - Math.floor(first / pageRows) + 1;
}

export const rowsOf = (rows: CacheRows, entry: PagedEntry): Rows => (entry.ofKeys ? rows.keys : rows.asking);

/** What a cache has rows for: the merged tokens of so many events from an ordinal on, or these events. */
export const cacheWindow = (config: ModelConfig, firstEvent: number, events: number): Window => (config.kind === 'longer' ? windowOf(config, firstEvent, events) : { first: 0, count: events });

/** Rows of a request's cache. Banded rows that ask are counted by the merged tokens they stand for, others from 0. */
export function cacheRows(config: ModelConfig, window: Window): CacheRows {
  if (config.kind !== 'longer') return { keys: window, asking: { first: 0, count: 0 } };
  const anchors = anchorCount(config);
  const asks = segmentsOf(config, window).flatMap((s) => s.asks);
  const learnable = config.queries.kind === 'learnable' ? config.queries.k : 0;
  return {
    keys: { first: window.first, count: anchors + window.count },
    asking: { first: config.window === 'banded' ? (asks[0] ?? 0) : 0, count: anchors + asks.length + learnable },
  };
}

/** Most pages of a history, wherever in its first page its window begins. */
export function mostPages(config: ModelConfig, paged: readonly PagedEntry[]): number {
  const keys = config.kind === 'longer' ? anchorCount(config) + groupCount(config) : config.maxHistory;
  const asking = config.kind === 'longer' ? anchorCount(config) + queryCount(config) : 0;
  return paged.reduce((n, e) => n + Math.ceil(((e.ofKeys ? keys : asking) + e.pageRows - 1) / e.pageRows), 0);
}

/** Rows of the pool that rows `from` to `to` (ordinals) of a chain are. */
function place(into: Int32Array, at: number, pages: Int32Array, first: number, p: number, from: number, to: number): number {
  const base = Math.floor(first / p);
  for (let o = from; o < to; ++o) into[at++] = pages[Math.floor(o / p) - base]! * p + (o % p);
  return at;
}

/** The rows of the pool that these chains are: `<as>.<name>`. */
export function layoutRows(as: 'write' | 'read', paged: readonly PagedEntry[], chains: readonly Chain[]): Map<string, Int32Array> {
  return new Map(paged.map((e) => {
    const index = new Int32Array(chains.reduce((n, c) => n + rowsOf(c.rows, e).count, 0));
    let at = 0;
    for (const c of chains) {
      const { first, count } = rowsOf(c.rows, e);
      at = place(index, at, c.pages.get(e.name)!, first, e.pageRows, first, first + count);
    }
    return [`${as}.${e.name}`, index];
  }));
}

/** Page tables of chains end to end, and where the rows from `first` of each begin when counted through them. */
function tables(paged: readonly PagedEntry[], chains: readonly Chain[], layers: number, sizes: Record<string, number>, arrays: Map<string, NumericArray>): void {
  for (const e of paged) {
    if (!isKeyOrValue(e.name)) continue;
    if (chains.length === 1) {
      arrays.set(`table.${e.name}`, chains[0]!.pages.get(e.name)!);
      continue;
    }
    const table = new Int32Array(chains.reduce((n, c) => n + c.pages.get(e.name)!.length, 0));
    let at = 0;
    for (const c of chains) {
      table.set(c.pages.get(e.name)!, at);
      at += c.pages.get(e.name)!.length;
    }
    arrays.set(`table.${e.name}`, table);
  }
  for (let layer = 0; layer <= layers; ++layer) sizes[`pages.${layer}`] = arrays.get(`table.k${layer}`)!.length;
}

/** Row `ordinal` of each chain, counted through the tables of a layer. */
function counted(entry: PagedEntry, chains: readonly Chain[]): (chain: number, ordinal: number) => number {
  const starts: number[] = [];
  let pages = 0;
  for (const c of chains) {
    starts.push((pages - Math.floor(rowsOf(c.rows, entry).first / entry.pageRows)) * entry.pageRows);
    pages += c.pages.get(entry.name)!.length;
  }
  return (chain, ordinal) => starts[chain]! + ordinal;
}

/** What candidates are scored with: tables and spans of all keys, or the rows that a baseline takes out of pages. */
export function layoutKeys(config: ModelConfig, paged: readonly PagedEntry[], chains: readonly Chain[]): ModelInputs {
  const sizes: Record<string, number> = { requests: chains.length };
  const arrays = new Map<string, NumericArray>();
  if (config.kind !== 'longer') {
    const offsets = running(chains.map((c) => c.window.count));
    return { sizes: { ...sizes, events: offsets.at(-1)! }, arrays: new Map<string, NumericArray>([...layoutRows('read', paged, chains), ['event.offsets', offsets]]) };
  }
  tables(paged, chains, config.selfLayers, sizes, arrays);
  for (let layer = 0; layer <= config.selfLayers; ++layer) {
    const entry = paged.find((e) => e.name === `k${layer}`)!;
    const row = counted(entry, chains);
    arrays.set(`spans${layer}`, Int32Array.from(chains.flatMap((c, r) => {
      const { first, count } = rowsOf(c.rows, entry);
      return count === 0 ? [0, 0] : [row(r, first), count];
    })));
  }
  return { sizes, arrays };
}

/** What holds of a cached request when it becomes another. */
export interface Held {
  /** The merged tokens that are there are those before this ordinal. */
  readonly known: Known;
  /** Rows that ask and hold, by ordinals [from, to): the same in the old chain. */
  readonly asking: readonly (readonly [from: number, to: number])[];
}

/**
 * @param agreed ordinal of the first event that is not the same in both, or that only one has
 * @returns undefined where the cache lacks merged tokens that are kept now
 */
export function heldRows(config: LongerConfig, before: Window, now: Window, agreed: number): Held | undefined {
  if (before.first > now.first) return undefined;
  const end = now.first + now.count;
  const banded = config.window === 'banded';
  const [old, segments] = [segmentsOf(config, before), segmentsOf(config, now)];
  const holds = (s: Segment, from: number): number => Math.max(0, ...old.map((o) => holding(o, s, from)));
  let from = Math.max(now.first, Math.min(Math.floor(agreed / config.merge), before.first + before.count, end));
  // A banded row starts from its merged token, which is not kept: where one does not hold, tokens are computed from there on.
  if (banded) from = Math.min(from, ...segments.map((s) => s.asks[holds(s, from)] ?? from));
  const rows: number[] = [];
  const asking: [number, number][] = [];
  for (const s of segments) {
    const held = holds(s, from);
    rows.push(held);
    // Bands go by ordinal; elsewhere there is one segment, and rows that hold are its first.
    const first = banded ? s.asks[0]! : 0;
    if (held > 0) asking.push([first, first + held]);
  }
  return { known: { from, rows }, asking };
}

/**
 * The input of the append graph for chains that grew out of others.
 * @param pools rows of the pool by symbol: `pool.f32`, `pool.bf16`, `pool.f16`
 */
export function layoutGrowth(
  schema: Schema, config: LongerConfig, paged: readonly PagedEntry[], requests: readonly EncodedRequest[], chains: readonly Chain[], held: readonly Held[], pools: Readonly<Record<string, number>>,
): ModelInputs {
  const known = held.map((h) => h.known);
  const tail = packBatch(schema, requests, historyForm(config), known.map((k, r) => Math.min(k.from * config.merge, requests[r]!.historyStart + requests[r]!.events)));
  const windows = chains.map((c) => c.window);
  const run = layoutHistory(config, tail);
  const [sizes, arrays] = [{ ...run.sizes, ...pools } as Record<string, number>, new Map<string, NumericArray>(run.arrays)];
  const rows = historyRows(config, windows, known);
  rowArrays(rows, sizes, arrays);
  sizes['fresh'] = rows.askOffsets.at(-1)!;
  tables(paged, chains, config.selfLayers, sizes, arrays);

  const banded = config.window === 'banded';
  const learnable = config.queries.kind === 'learnable' ? config.queries.k : 0;
  const segments = windows.map((w) => segmentsOf(config, w));
  for (const e of paged) {
    const index = new Int32Array(e.ofKeys ? sizes['groups']! : sizes['fresh']!);
    let at = 0;
    chains.forEach((c, r) => {
      const { first, count } = rowsOf(c.rows, e);
      const pages = c.pages.get(e.name)!;
      if (e.ofKeys) {
        at = place(index, at, pages, first, e.pageRows, known[r]!.from, first + count);
        return;
      }
      let begin = first;
      segments[r]!.forEach((s, i) => {
        at = place(index, at, pages, first, e.pageRows, begin + known[r]!.rows[i]!, begin + s.asks.length);
        begin += s.asks.length;
      });
      at = place(index, at, pages, first, e.pageRows, begin, begin + learnable);
    });
    arrays.set(`write.${e.name}`, index);
  }
  for (let layer = 0; layer <= config.selfLayers; ++layer) {
    const entry = paged.find((e) => e.name === `k${layer}`)!;
    const row = counted(entry, chains);
    arrays.set(`spans${layer}`, Int32Array.from(chains.flatMap((c, r) => {
      const { first, count } = rowsOf(c.rows, entry);
      if (!banded) return [row(r, first), count];
      return segments[r]!.flatMap(({ start, asks }) => (asks.length === 0 ? [0, 0] : layer === 0 ? [row(r, start), asks.at(-1)! + 1 - start] : [row(r, asks[0]!), asks.length]));
    })));
  }
  const rowsAt = (e: PagedEntry): Int32Array => layoutRows('write', [e], chains).get(`write.${e.name}`)!;
  arrays.set('sequence.index', rowsAt(paged.find((e) => e.name === 'out')!));
  if (!banded) {
    const merged = paged.find((e) => e.name === 'merged')!;
    const tokens = rowsAt(merged);
    const pool = pools[`pool.${merged.dtype}`]!;
    arrays.set('query.index', rows.queryIndex.map((i) => (i < tokens.length ? tokens[i]! : i - tokens.length + pool)));
  }
  return { sizes, arrays };
}

/** What of a grown request was computed, and what was taken over. */
export function reuseOf(config: LongerConfig, window: Window, events: number, { known }: Held): Reuse {
  const asking = segmentsOf(config, window).reduce((n, s) => n + s.asks.length, config.queries.kind === 'learnable' ? config.queries.k : 0);
  const kept = known.rows.reduce((n, held) => n + held, 0);
  const computed = Math.max(0, events - (known.from - window.first) * config.merge);
  return { events: { kept: events - computed, computed }, rows: { kept, computed: asking - kept } };
}
