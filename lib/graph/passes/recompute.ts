import { type Symbols } from '../dim.ts';
import { bytesOf, type Graph, type Node, type Value } from '../graph.ts';

/**
 * What the forward pass does not keep for the backward pass.
 * - `none`: everything is kept.
 * - `selective`: norms, projections to Q, K, V and the FFN's hidden layer are computed again.
 * - `block`: only the borders of blocks and what attention gives are kept, the rest is computed again. (Attention run
 *   again would need the keys and values of the whole history while the FFN behind it has its turn.)
 * - a number: bytes of arena; the cheapest values per byte are dropped until the plan fits.
 */
export type RecomputePolicy = 'none' | 'selective' | 'block' | { readonly budget: number };

/** Scopes whose linear results `selective` drops: see model/block.ts. */
const selectiveScopes = ['.qkv.', '.ffn.'];

/** Forward values that are read by the backward pass and can be computed again. */
function candidates(graph: Graph): { value: Value; node: Node }[] {
  const read = new Set<Value>();
  for (const node of graph.nodes) if (node.backward) for (const v of node.inputs) if (v) read.add(v);
  const found: { value: Value; node: Node }[] = [];
  for (const node of graph.nodes) {
    // A node with a result that is kept does not run again for the sake of another one.
    if (node.backward || node.op.inPlace || node.outputs.some((v) => v && graph.borders.has(v))) continue;
    for (const value of node.outputs)
      if (value && value.kind === 'temporary' && read.has(value) && ![...graph.outputs.values()].includes(value))
        found.push({ value, node });
  }
  return found;
}

/** How a policy is carried out. */
export interface RecomputeOptions {
  /** Dropped whatever the policy says: what tiles compute again. */
  readonly always?: ReadonlySet<Value>;
  /** For a memory budget: arena bytes of a graph at the sizes that the budget is meant for. */
  readonly sizes?: Symbols;
  readonly measure?: ((graph: Graph) => number) | undefined;
}

/**
 * Moves the last use of forward values out of the backward pass: each dropped value that the backward pass reads is
 * computed again just before its first use there. The results are the same bits.
 */
export function recompute(graph: Graph, policy: RecomputePolicy, options: RecomputeOptions = {}): Graph {
  const { always = new Set<Value>(), sizes = {}, measure } = options;
  const dropping = (values: readonly Value[]): Graph => drop(graph, new Set([...always, ...values]));
  if (policy === 'none') return dropping([]);
  const all = candidates(graph).filter(({ value }) => !always.has(value));
  if (policy === 'block') return dropping(all.map((c) => c.value));
  if (policy === 'selective')
    return dropping(all.filter(({ node }) => node.op.name === 'norm' || selectiveScopes.some((s) => `.${node.name}.`.includes(s))).map((c) => c.value));
  if (!measure) throw new Error('a memory budget needs a measure of the plan');
  if (measure(dropping([])) <= policy.budget) return dropping([]);
  const ranked = all
    .map(({ value, node }) => ({ value, price: (node.op.flops?.(node, sizes) ?? bytesOf(value, sizes)) / Math.max(1, bytesOf(value, sizes)) }))
    .sort((a, b) => a.price - b.price || a.value.id - b.value.id);
  // The peak falls (nearly) monotonically with the number dropped: a binary search over the ranking.
  let low = 0;
  let high = ranked.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (measure(dropping(ranked.slice(0, middle).map((r) => r.value))) <= policy.budget) high = middle;
    else low = middle + 1;
  }
  return dropping(ranked.slice(0, low).map((r) => r.value));
}

function drop(graph: Graph, dropped: ReadonlySet<Value>): Graph {
  if (dropped.size === 0) return graph;
  const producer = new Map<Value, Node>();
  for (const node of graph.nodes) if (!node.backward) for (const v of node.outputs) if (v) producer.set(v, node);
  const again = new Map<Value, Value>();
  const nodes: Node[] = [];

  const restore = (value: Value): Value => {
    if (!dropped.has(value)) return value;
    const known = again.get(value);
    if (known) return known;
    const node = producer.get(value)!;
    const inputs = node.inputs.map((v) => v && restore(v));
    const outputs = node.outputs.map((v) => {
      if (!v) return null;
      const copy = graph.like(v, `${v.name}.again`);
      if (dropped.has(v)) again.set(v, copy);
      return copy;
    });
    nodes.push({ ...node, name: `${node.name}.again`, inputs, outputs, backward: true, again: true });
    return again.get(value)!;
  };

  for (const node of graph.nodes)
    nodes.push(node.backward ? { ...node, inputs: node.inputs.map((v) => v && restore(v)) } : node);
  // restore() pushes into `nodes` while a backward node's inputs are mapped, that is, before the node itself.
  return graph.rewrite(nodes);
}
