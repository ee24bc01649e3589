import { type Graph, type OpDefinition, rowsOf, type Value } from '../graph.ts';

const definition: OpDefinition = { name: 'time_bucket', fullInputs: 'all', tile: { inputs: ['row', 'segment', 'offsets', 'whole'], outputs: ['row'] } };

/** Bucket of each event's gap to its request: how many boundaries are at most max(0, request time - event time). */
export function timeBucket(graph: Graph, eventTime: Value, requestTime: Value, eventOffsets: Value, boundaries: Value): Value {
  const ids = graph.temporary('time_bucket', 'i32', [rowsOf(eventTime)]);
  graph.emit(definition, [eventTime, requestTime, eventOffsets, boundaries], [ids]);
  return ids;
}
