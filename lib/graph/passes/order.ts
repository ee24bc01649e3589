import type { Graph, Value } from '../graph.ts';

/**
 * Sorts the nodes of a forward graph by depth: the number of operations between a node and the inputs, at most. What reads
 * one stage of a model then stands beside that stage, and so it does in the backward pass, which runs the other way round:
 * there a stage is done with, and what it kept or computed again is free, before the stage in front of it begins.
 */
export function orderByDepth(graph: Graph): void {
  const depth = new Map<Value, number>();
  const order = graph.nodes.map((node, at) => {
    const d = 1 + Math.max(0, ...node.inputs.map((v) => (v && depth.get(v)) ?? 0));
    for (const v of node.outputs) if (v) depth.set(v, d);
    return { node, at, d };
  });
  order.sort((a, b) => a.d - b.d || a.at - b.at);
  graph.nodes.splice(0, graph.nodes.length, ...order.map((o) => o.node));
}
