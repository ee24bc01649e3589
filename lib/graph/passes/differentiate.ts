import { LongerError } from '../../errors.ts';
import { type Graph, type Node, type SparseUse, type Value } from '../graph.ts';
import { add } from '../ops/add.ts';

export interface Gradients {
  /** Gradient of every dense parameter that the loss depends on. */
  readonly dense: ReadonlyMap<Value, Value>;
  /** Uses of every embedding table, in the order in which the backward pass meets them. */
  readonly sparse: ReadonlyMap<Value, readonly SparseUse[]>;
  /** Gradients of the inputs that were asked for. */
  readonly inputs: ReadonlyMap<Value, Value>;
}

/**
 * Appends the backward pass of `loss` to the graph (reverse mode, one sweep). The node that makes the loss starts it, with
 * `dloss` as the loss's gradient (null: 1). Contributions to a value are summed in the order of the sweep.
 *
 * @throws LongerError ERR_GRAPH when an operation on the way has no gradient.
 */
export function differentiate(graph: Graph, loss: Value, wantedInputs: readonly Value[] = [], dloss: Value | null = null): Gradients {
  const forward = [...graph.nodes];
  const leads = new Set<Value>(wantedInputs);
  for (const p of graph.parameters.values()) leads.add(p);
  for (const node of forward) if (node.inputs.some((v) => v && leads.has(v))) for (const v of node.outputs) if (v) leads.add(v);
  if (!leads.has(loss)) throw new LongerError('ERR_GRAPH', `the loss '${loss.name}' depends on no parameter`);

  // A parameter's gradient is whole, and summed, once the first node that reads it has been passed.
  const firstReader = new Map<Value, Node>();
  for (const node of forward) for (const v of node.inputs) if (v?.kind === 'parameter' && !firstReader.has(v)) firstReader.set(v, node);

  const contributions = new Map<Value, Value[]>();
  const sparse = new Map<Value, SparseUse[]>();
  const context = {
    graph,
    wants: (value: Value | null) => value !== null && leads.has(value),
    sparse(use: SparseUse) {
      const uses = sparse.get(use.table);
      if (uses) uses.push(use);
      else sparse.set(use.table, [use]);
    },
  };
  const total = (value: Value): Value | null => {
    const parts = contributions.get(value);
    if (!parts) return null;
    const sum = graph.scope(`${value.name}.gradient`, () => add(graph, ...parts));
    contributions.set(value, [sum]);
    return sum;
  };

  graph.inBackward(() => {
    for (const node of forward.reverse()) {
      const starts = node.outputs.includes(loss);
      const dy = node.outputs.map((v) => (v === loss ? dloss : v ? total(v) : null));
      if (!starts && dy.every((g) => g === null)) continue;
      if (!node.inputs.some((v) => v && leads.has(v))) continue;
      if (!node.op.gradient) throw new LongerError('ERR_GRAPH', `the operation '${node.op.name}' (${node.name}) has no gradient`);
      const grads = graph.scope(node.name, () => node.op.gradient!(node, dy, context));
      node.inputs.forEach((input, i) => {
        const g = grads[i];
        if (!input || !g || !leads.has(input)) return;
        const parts = contributions.get(input);
        if (parts) parts.push(g);
        else contributions.set(input, [g]);
      });
      for (const v of node.inputs) if (v && firstReader.get(v) === node) total(v);
    }
  });

  const dense = new Map<Value, Value>();
  const inputs = new Map<Value, Value>();
  graph.inBackward(() => {
    for (const p of graph.parameters.values()) {
      const g = total(p);
      if (g) dense.set(p, g);
    }
    for (const v of wantedInputs) {
      const g = total(v);
      if (g) inputs.set(v, g);
    }
  });
  return { dense, sparse, inputs };
}
