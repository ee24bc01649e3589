import { fixed, sizeOf } from '../dim.ts';
import { type Graph, type OpDefinition, rowsOf, type Value, widthOf } from '../graph.ts';

/** Keys that lie in pages of a pool: key j of segment b is row `spans[b].first + j`, counted through the page tables. Inference only. */
export interface PagedKeys {
  /** The memory of all pages, [rows, width], or i32 [rows, quantisedWords] for rows in int8; both may be the same. */
  readonly k: Value;
  readonly v: Value;
  /** Numbers of the pages of all segments end to end: i32 [pages] each. */
  readonly kTable: Value;
  readonly vTable: Value;
  /** First key and count: i32 [segments, 2]. */
  readonly spans: Value;
  readonly pageRows: number;
}

/** attention.ts over pages; its FLOPs count the keys of whole pages. */
const definition: OpDefinition = {
  name: 'paged_attention',
  fullOutputs: [1],
  flops({ inputs: [q, , , table, , , spans], attrs }, sizes) {
    const keys = (sizeOf(rowsOf(table!), sizes) * attrs[2]!) / Math.max(1, sizeOf(rowsOf(spans!), sizes));
    return 4 * sizeOf(rowsOf(q!), sizes) * keys * widthOf(q!);
  },
};

export function pagedAttention(graph: Graph, q: Value, keys: PagedKeys, rows: { readonly qOffsets: Value; readonly limits: Value }, heads: number): Value {
  const o = graph.like(q, 'attention');
  const lse = graph.temporary('lse', 'f32', [rowsOf(q), fixed(heads)]);
  graph.emit(
    definition,
    [q, keys.k, keys.v, keys.kTable, keys.vTable, rows.qOffsets, keys.spans, rows.limits],
    [o, lse],
    [heads, 1 / Math.sqrt(widthOf(q) / heads), keys.pageRows],
  );
  return o;
}

/** candidate_attention.ts over pages. */
const candidateDefinition: OpDefinition = {
  name: 'paged_candidate_attention',
  fullOutputs: [1],
  flops({ inputs: [q, , , , , table, , , spans], attrs }, sizes) {
    const keys = (sizeOf(rowsOf(table!), sizes) * attrs[3]!) / Math.max(1, sizeOf(rowsOf(spans!), sizes));
    return 4 * sizeOf(rowsOf(q!), sizes) * (keys + attrs[2]!) * widthOf(q!);
  },
};

export function pagedCandidateAttention(graph: Graph, q: Value, own: { readonly k: Value; readonly v: Value }, keys: PagedKeys, candidateOffsets: Value, heads: number, m: number): Value {
  const o = graph.like(q, 'attention');
  const lse = graph.temporary('lse', 'f32', [rowsOf(q), fixed(heads)]);
  graph.emit(
    candidateDefinition,
    [q, own.k, own.v, keys.k, keys.v, keys.kTable, keys.vTable, candidateOffsets, keys.spans],
    [o, lse],
    [heads, 1 / Math.sqrt(widthOf(q) / heads), m, keys.pageRows],
  );
  return o;
}
