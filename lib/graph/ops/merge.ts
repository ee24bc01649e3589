import { type Dim, fixed } from '../dim.ts';
import { type Graph, type OpDefinition, type Value, widthOf } from '../graph.ts';

const definition: OpDefinition = {
  name: 'merge',
  mixedInputs: 'all',
  mixedOutputs: 'all',
  tile: { inputs: ['row', 'offsets', 'groupOffsets'], outputs: ['group'], groupSize: 0 },
  gradient(node, [dy], { graph }) {
    const [x, eventOffsets, groupOffsets] = node.inputs;
    const dx = graph.like(x!, 'dx');
    graph.emit(dxDefinition, [dy!, eventOffsets!, groupOffsets!], [dx], node.attrs);
    return [dx, null, null];
  },
};

const dxDefinition: OpDefinition = { name: 'merge_dx', mixedInputs: 'all', mixedOutputs: 'all', tile: { inputs: ['group', 'offsets', 'groupOffsets'], outputs: ['row'], groupSize: 0 } };

/** Token merge (spec 3.1): K adjacent events become one row of K*d, groups aligned at the newest event. */
export function merge(graph: Graph, x: Value, eventOffsets: Value, groupOffsets: Value, groups: Dim, groupSize: number): Value {
  const y = graph.temporary('merged', 'f32', [groups, fixed(widthOf(x) * groupSize)]);
  graph.emit(definition, [x, eventOffsets, groupOffsets], [y], [groupSize]);
  return y;
}
