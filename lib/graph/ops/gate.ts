import { type Graph, type OpDefinition, rowWise, type Value } from '../graph.ts';

const definition: OpDefinition = {
  name: 'gate',
  mixedInputs: 'all',
  mixedOutputs: 'all',
  tile: rowWise,
  gradient(node, [dy], { graph }) {
    const [x, g] = node.inputs;
    const dx = graph.like(x!, 'dx');
    const dg = graph.like(g!, 'dg');
    graph.emit({ name: 'gate_dx', mixedInputs: 'all', mixedOutputs: 'all', tile: rowWise }, [x!, g!, dy!], [dx, dg]);
    return [dx, dg];
  },
};

/** x * sigmoid(g). */
export function gate(graph: Graph, x: Value, g: Value): Value {
  const y = graph.like(x, 'gated');
  graph.emit(definition, [x, g], [y]);
  return y;
}
