import type { Graph, Node, Value } from '../graph.ts';
import { dropoutDefinition } from '../ops/dropout.ts';
import { fuseInnerTransformers, type Target } from './inner_transformer.ts';
import { type Precision, precision } from './precision.ts';
import { prune } from './prune.ts';

/** The graph as it is evaluated and served: dropout passes its input on. */
export function inference(graph: Graph): Graph {
  const source = new Map<Value, Value>();
  const nodes: Node[] = [];
  for (const node of graph.nodes) {
    const inputs = node.inputs.map((v) => (v && source.get(v)) ?? v);
    if (node.op === dropoutDefinition) source.set(node.outputs[0]!, inputs[0]!);
    else nodes.push({ ...node, inputs });
  }
  return graph.rewrite(nodes, new Map([...graph.outputs].map(([name, v]) => [name, source.get(v) ?? v])));
}

/** All passes of a graph that is evaluated or served: without dropout and what nothing reads, in a precision, as the target runs it. */
export const inferenceGraph = (graph: Graph, policy: Precision, target: Target, keep: Iterable<Value> = []): Graph =>
  precision(fuseInnerTransformers(prune(inference(graph)), policy, target), policy, keep);
