import { type Graph, type Node, type Value } from '../graph.ts';
import { activationDxDefinition } from '../ops/activation.ts';
import { addDefinition } from '../ops/add.ts';
import { linearDxDefinition } from '../ops/linear.ts';
import { normDxDefinition } from '../ops/norm.ts';

/**
 * Folds element-wise steps of the backward pass into the epilogue of the operation before them:
 * activation_dx(pre, linear_dx(..)) and a two-term sum with linear_dx or norm_dx. `pinned` values must keep existing.
 */
export function fuse(graph: Graph, pinned: ReadonlySet<Value> = new Set()): Graph {
  const producer = new Map<Value, number>();
  const uses = new Map<Value, number>();
  const nodes: (Node | null)[] = [...graph.nodes];
  nodes.forEach((node, i) => {
    for (const v of node!.outputs) if (v) producer.set(v, i);
    for (const v of node!.inputs) if (v) uses.set(v, (uses.get(v) ?? 0) + 1);
  });
  for (const v of [...graph.outputs.values(), ...pinned]) uses.set(v, (uses.get(v) ?? 0) + 1);
  const onlyUse = (v: Value): boolean => uses.get(v) === 1 && !graph.borders.has(v);

  for (let i = 0; i < nodes.length; ++i) {
    const node = nodes[i]!;
    if (!node?.backward) continue;
    if (node.op === activationDxDefinition) {
      const [pre, dy] = node.inputs as [Value, Value];
      const at = producer.get(dy);
      const from = at === undefined ? null : nodes[at];
      if (from?.op !== linearDxDefinition || !onlyUse(dy) || from.inputs[2] || from.inputs[3]) continue;
      nodes[at!] = null;
      nodes[i] = { ...from, inputs: [from.inputs[0]!, from.inputs[1]!, pre, null], outputs: node.outputs, attrs: node.attrs };
    } else if (node.op === addDefinition && node.inputs.length === 2) {
      for (const side of [1, 0]) {
        const mine = node.inputs[side]!;
        const other = node.inputs[1 - side]!;
        const at = producer.get(mine);
        const from = at === undefined ? null : nodes[at];
        const slot = from?.op === linearDxDefinition ? 3 : from?.op === normDxDefinition ? 5 : -1;
        // The whole producer moves down to the sum, so its other results (norm gains) must not be read in between.
        if (!from || slot < 0 || from.outputs[0] !== mine || !onlyUse(mine) || mine === other || from.inputs[slot]) continue;
        if (from.outputs.slice(1).some((v) => v && readBetween(nodes, v, at!, i))) continue;
        nodes[at!] = null;
        const inputs = [...from.inputs];
        inputs[slot] = other;
        nodes[i] = { ...from, inputs, outputs: [node.outputs[0]!, ...from.outputs.slice(1)] };
        from.outputs.slice(1).forEach((v) => v && producer.set(v, i));
        break;
      }
    }
  }
  return graph.rewrite(nodes.filter((n): n is Node => n !== null));
}

function readBetween(nodes: readonly (Node | null)[], value: Value, from: number, to: number): boolean {
  for (let i = from + 1; i < to; ++i) if (nodes[i]?.inputs.includes(value)) return true;
  return false;
}
