import { LongerError } from '../errors.ts';
import { fixed, symbol, times } from '../graph/dim.ts';
import { Graph, type Value } from '../graph/graph.ts';
import { castDefinition } from '../graph/ops/cast.ts';
import { gatherRows } from '../graph/ops/gather_rows.ts';
import { type PagedKeys, pagedAttention, pagedCandidateAttention } from '../graph/ops/paged_attention.ts';
import { quantisedWords, writeQuantisedRows, writeRows } from '../graph/ops/write_rows.ts';
import { inferenceGraph } from '../graph/passes/inference.ts';
import { cpuTarget, type Target } from '../graph/passes/inner_transformer.ts';
import type { Precision } from '../graph/passes/precision.ts';
import { elementBytes } from '../native/dtype.ts';
import { appendRefusal, appendRemedy } from './append.ts';
import { baselineCandidateSide } from './baselines/baselines.ts';
import { groupCount, type LongerConfig, type ModelConfig, queryCount } from './config.ts';
import { indexInput } from './layers.ts';
import type { Cache } from './head.ts';
import { candidateSide, isKeyOrValue, ofKeys, userSide } from './longer.ts';
import type { CacheEntry, ModelDescription } from './model.ts';
import { anchorCount, segmentCount } from './visibility.ts';

/**
 * How keys and values lie in pages: as the model's precision computes them, or in int8 with a scale for each head of each row. Rows that a growing cache also keeps (merged tokens,
 * those that the head reads) stay as they are.
 */
export type CachePrecision = 'model' | 'int8';

/** A cached value as it is stored: rows in int8 as words. */
interface StoredEntry extends Omit<CacheEntry, 'dtype'> {
  readonly dtype: CacheEntry['dtype'] | 'i32';
}

/** A cached value whose rows lie in pages: as many rows a page as its type lets into one. */
export interface PagedEntry extends StoredEntry {
  /** Rows stand for merged tokens (of a baseline: events); others for rows that ask. */
  readonly ofKeys: boolean;
  readonly pageRows: number;
}

/**
 * The graphs of a model over a pool of pages: `prefill` and `append` write what they compute of the history into pages (outputs `pool.<name>`, the
 * pool's own memory; inputs `write.<name>` i32, the rows), `append` and `score` read keys and values through page tables (inputs
 * `table.<name>` i32 and `spans<layer>` i32 [segments, 2]; `score`: `pool.f32`, `pool.bf16` or `pool.f16` as well). What has one row a request is `cache.<name>` as elsewhere.
 * Baselines have no keys: their scoring takes rows out of pages (inputs `read.<name>` i32).
 */
export class PagedGraphs {
  readonly model: ModelDescription;
  readonly config: ModelConfig;
  readonly precision: Precision;
  readonly paged: readonly PagedEntry[];
  /** One row a request. */
  readonly single: readonly CacheEntry[];
  readonly pageBytes: number;
  readonly #target: Target;

  /** @throws LongerError ERR_CONFIG for a page that does not hold whole rows, or a model that has no int8 form */
  constructor(model: ModelDescription, policy: Precision, pageBytes: number, cachePrecision: CachePrecision = 'model', target: Target = cpuTarget) {
    this.model = model;
    this.#target = target;
    this.config = model.config;
    this.precision = policy;
    this.pageBytes = pageBytes;
    const entries = model.cacheIn(policy);
    this.single = entries.filter((e) => !isPaged(e));
    this.paged = pagedEntries(model, policy, cachePrecision).map((e) => ({ ...e, ofKeys: this.config.kind !== 'longer' || ofKeys(e.name), pageRows: pageBytes / rowBytes(e) }));
    const odd = this.paged.find((e) => !Number.isSafeInteger(e.pageRows) || e.pageRows < 1);
    if (odd) throw new LongerError('ERR_CONFIG', `a page of ${pageBytes} bytes does not hold whole rows of ${rowBytes(odd)}`, { place: 'pageBytes', remedy: `Take defaultPageBytes of the model, or a multiple of ${rowBytes(odd)} bytes` });
  }

  prefill(): Graph {
    const graph = new Graph();
    for (const [name, value] of Object.entries(this.model.userSide(graph))) {
      const entry = this.#entry(name);
      if (entry) graph.output(`pool.${name}`, this.#written(graph, entry, indexInput(graph, `write.${name}`, entry.rows), value));
      else graph.output(`cache.${name}`, value);
    }
    return this.#finished(graph);
  }

  /** @throws LongerError ERR_CONFIG for a model under which nothing holds when a history grows */
  append(): Graph {
    const { schema, config } = this.model;
    const refusal = appendRefusal(schema, config);
    if (refusal !== null || config.kind !== 'longer') throw new LongerError('ERR_CONFIG', `the cache cannot be appended to: ${refusal}`, { place: 'model', remedy: appendRemedy });
    const graph = new Graph();
    const join = (name: string, fresh: Value): Value => {
      const entry = this.#entry(name)!;
      return this.#written(graph, entry, indexInput(graph, `write.${name}`, entry.ofKeys ? symbol('groups') : symbol('fresh')), fresh);
    };
    const segments = times(symbol('requests'), segmentCount(config));
    const cache = userSide(graph, schema, config, {
      join,
      attend: (layer, q, k, v, rows) => pagedAttention(graph, q, this.#keys(graph, layer, k, v, segments), rows, config.heads),
    });
    for (const [name, value] of Object.entries(cache)) graph.output(`${this.#entry(name) ? 'pool' : 'cache'}.${name}`, value);
    return this.#finished(graph);
  }

  /** Output `logits` f32 [candidates, tasks]. */
  score(): Graph {
    const graph = new Graph();
    const { schema, config } = this.model;
    const single: Cache = Object.fromEntries(this.single.map((e) => [e.name, graph.input(`cache.${e.name}`, e.dtype, [e.rows, fixed(e.width)])]));
    const pool = (name: string): Value => {
      const entry = this.#entry(name)!;
      return graph.input(`pool.${entry.dtype}`, entry.dtype, [poolRows(entry), fixed(entry.width)]);
    };
    const rows = (e: PagedEntry): Value => gatherRows(graph, indexInput(graph, `read.${e.name}`, e.rows), pool(e.name));
    const logits = config.kind === 'longer'
      ? candidateSide(graph, schema, config, single, (layer, q, own, offsets, m) =>
        pagedCandidateAttention(graph, q, own, this.#keys(graph, layer, pool(`k${layer}`), pool(`v${layer}`), symbol('requests')), offsets, config.heads, m))
      : baselineCandidateSide(graph, schema, config, { ...single, ...Object.fromEntries(this.paged.map((e) => [e.name, rows(e)])) });
    graph.output('logits', logits);
    return this.#finished(graph, [logits]);
  }

  #entry(name: string): PagedEntry | undefined {
    return this.paged.find((e) => e.name === name);
  }

  #written(graph: Graph, entry: PagedEntry, index: Value, x: Value): Value {
    return entry.dtype === 'i32' ? writeQuantisedRows(graph, index, x, poolRows(entry), (this.config as LongerConfig).heads) : writeRows(graph, index, x, poolRows(entry), entry.dtype);
  }

  #keys(graph: Graph, layer: number, k: Value, v: Value, segments: ReturnType<typeof symbol>): PagedKeys {
    const [ofK, ofV] = [this.#entry(`k${layer}`)!, this.#entry(`v${layer}`)!];
    if (ofK.dtype !== ofV.dtype) throw mixed(`layer${layer}`);
    const table = (name: string): Value => indexInput(graph, `table.${name}`, symbol(`pages.${layer}`));
    return { k, v, kTable: table(`k${layer}`), vTable: table(`v${layer}`), spans: graph.input(`spans${layer}`, 'i32', [segments, fixed(2)]), pageRows: ofK.pageRows };
  }

  #finished(graph: Graph, keep: readonly Value[] = []): Graph {
    const done = inferenceGraph(graph, this.precision, this.#target, keep);
    // Converting the whole pool for one operation is never meant.
    for (const { op, inputs, name } of done.nodes)
      if (op === castDefinition && inputs.some((v) => ['pool.f32', 'pool.bf16', 'pool.f16'].some((rows) => v?.dims[0]!.terms.has(rows)))) throw mixed(name);
    return done;
  }
}

const mixed = (name: string): LongerError =>
  new LongerError('ERR_CONFIG', 'keys and values in pages have the type of the attention that reads them', { place: `precision.full (${name})`, remedy: 'Name whole layers, each with its candidate_layer' });

/** Whether a value has rows for what a history holds, not one a request. */
const isPaged = ({ rows }: Pick<CacheEntry, 'rows'>): boolean => [...rows.terms.keys()].some((s) => s !== 'requests');
/** Whether any does: pages are of use. */
export const keepsRows = (model: ModelDescription, policy: Precision): boolean => model.cacheIn(policy).some(isPaged);
/** The values that lie in pages, as they lie there: of rows in int8, words. @throws LongerError ERR_CONFIG for a model that has no int8 form */
function pagedEntries(model: ModelDescription, policy: Precision, cachePrecision: CachePrecision): StoredEntry[] {
  const entries = model.cacheIn(policy).filter(isPaged);
  if (cachePrecision === 'model') return entries;
  const { config } = model;
  const refuse = (message: string): LongerError => new LongerError('ERR_CONFIG', message, { place: 'cachePrecision', remedy: "Leave it at 'model'" });
  if ((cachePrecision as string) !== 'int8') throw refuse(`expected 'model' or 'int8', got ${JSON.stringify(cachePrecision)}`);
  if (config.kind !== 'longer') throw refuse(`'${config.kind}' keeps no keys and values that could be in int8`);
  return entries.map((e) => {
    if (!isKeyOrValue(e.name)) return e;
    if (e.width % 4 !== 0) throw refuse(`rows of ${e.width} numbers are no whole words of four`);
    return { ...e, dtype: 'i32', width: quantisedWords(e.width, config.heads) };
  });
}

const rowBytes = (e: StoredEntry): number => e.width * elementBytes[e.dtype];
const poolRows = (e: StoredEntry): ReturnType<typeof symbol> => symbol(`pool.${e.dtype}`);

/**
 * Bytes of a page: most rows, at most 64, with which the pages of a user whose window is full hold at most 5 % more than its keys and values,
 * wherever in its first page the window begins; more where rows in int8 and others have to fill it whole.
 */
export function defaultPageBytes(model: ModelDescription, policy: Precision, cachePrecision: CachePrecision = 'model'): number {
  const { config } = model;
  const chains = config.kind === 'longer' ? config.selfLayers + 1 : 1;
  const rows = config.kind === 'longer' ? groupCount(config) + config.selfLayers * queryCount(config) + chains * anchorCount(config) : config.maxHistory;
  let pageRows = 64;
  while (pageRows > 2 && (pageRows - 1) * chains > 0.05 * rows) pageRows /= 2;
  const paged = pagedEntries(model, policy, cachePrecision);
  if (paged.length === 0) return 4 * pageRows; // a model that keeps one row a request has no use for pages
  // Where rows of two sizes share pages, a page holds whole rows of both.
  const [bytes, whole] = [pageRows * rowBytes(paged[0]!), paged.map(rowBytes).reduce((a, b) => (a / greatestDivisor(a, b)) * b)];
  return Math.max(1, Math.floor(bytes / whole)) * whole;
}

const greatestDivisor = (a: number, b: number): number => (b === 0 ? a : greatestDivisor(b, a % b));
