import { type Graph, type Node, type Value } from '../graph.ts';

/** Drops nodes whose results nothing reads, and optional outputs that nothing reads. */
export function prune(graph: Graph, keep: Iterable<Value> = []): Graph {
  const live = new Set<Value>([...graph.outputs.values(), ...keep]);
  const kept: Node[] = [];
  for (let i = graph.nodes.length - 1; i >= 0; --i) {
    const node = graph.nodes[i]!;
    if (!node.op.inPlace && !node.outputs.some((v) => v && live.has(v))) continue;
    const optional = node.op.optionalOutputs ?? [];
    const outputs = node.outputs.map((v, o) => (v && !live.has(v) && optional.includes(o) ? null : v));
    for (const v of node.inputs) if (v) live.add(v);
    kept.push({ ...node, outputs });
  }
  return graph.rewrite(kept.reverse());
}
