import { LongerError } from '../../errors.ts';
import type { DTypeName } from '../../native/types.ts';
import { nearest } from '../../schema/suggest.ts';
import { type Graph, type Node, type Value } from '../graph.ts';
import { addDefinition } from '../ops/add.ts';
import { castDefinition } from '../ops/cast.ts';

/**
 * How the values of a graph are held (paper 3.5, "chosen per model part"):
 * - `fp32`: all in f32.
 * - `bf16`: temporaries in bf16, save for what operations declare full: statistics, loss, gradients of parameters. Sums
 *   run in f32; parameters, tables and optimizer state are f32.
 * - an object: bf16, and every operation inside the scopes named in `full` in f32.
 */
export type Precision = 'fp32' | 'bf16' | { readonly mode: 'bf16'; readonly full: readonly string[] };

/** Scopes that stay f32 in a bf16 graph, or null for a graph in f32. */
function fullScopes(policy: Precision): readonly string[] | null {
  if (policy === 'fp32') return null;
  return policy === 'bf16' ? [] : policy.full;
}

/** Whether a scope (one or more names joined by dots) stands somewhere in the path of a node. */
const inScope = (node: Node, scope: string): boolean => `.${node.name}.`.includes(`.${scope}.`);

/**
 * Checks a policy against the graph that it is meant for.
 * @param place the setting's name, for errors
 * @throws LongerError ERR_CONFIG for an unknown mode, for fp16, and for a scope that holds no operation
 */
export function checkPrecision(policy: unknown, graph: Graph, place: string): asserts policy is Precision {
  const mode = typeof policy === 'object' && policy !== null ? (policy as { mode?: unknown }).mode : policy;
  if (mode === 'fp16') throw new LongerError('ERR_CONFIG', 'fp16 arrives with CUDA, the CPU computes in fp32 and bf16', { place, remedy: 'Use bf16, which has the range of fp32 and needs no loss scaling' });
  if (mode !== 'bf16' && (mode !== 'fp32' || typeof policy === 'object'))
    throw new LongerError('ERR_CONFIG', `expected "fp32", "bf16" or { "mode": "bf16", "full": [scopes] }, got ${JSON.stringify(policy)}`, { place });
  if (typeof policy !== 'object') return;
  const { full } = policy as { full?: unknown };
  if (!Array.isArray(full) || full.some((s) => typeof s !== 'string')) throw new LongerError('ERR_CONFIG', `expected a list of scope names, got ${JSON.stringify(full)}`, { place: `${place}.full` });
  for (const scope of full as string[]) {
    if (graph.nodes.some((n) => inScope(n, scope))) continue;
    const known = [...new Set(graph.nodes.flatMap((n) => n.name.split('.').slice(0, -1)))];
    const guess = nearest(scope, known);
    throw new LongerError('ERR_CONFIG', `no part of the model is named '${scope}'${guess ? `; did you mean '${guess}'?` : ''}`, { place: `${place}.full`, remedy: `Parts: ${known.join(', ')}` });
  }
}

/**
 * Retypes the f32 temporaries of a graph to bf16 and inserts a `cast` where an operation is given the other type than the
 * one it computes in. What an operation writes depends on the operation, its scope and `keep` alone, never on its readers:
 * a value has the same bits in every graph that computes it.
 *
 * @param keep values that stay f32 whatever computes them (logits, placed gradients); they remain the same objects
 */
export function precision(graph: Graph, policy: Precision, keep: Iterable<Value> = []): Graph {
  const scopes = fullScopes(policy);
  if (!scopes) return graph;
  const kept = withTerms(graph, keep);
  const result = graph.rewrite([]);
  const typed = new Map<Value, Value>(); // as the new graph has it, where that differs
  const casts = new Map<string, Value>();

  const cast = (value: Value, dtype: DTypeName, node: Node): Value => {
    // The backward pass casts again instead of holding the forward pass's copy.
    const key = `${value.id} ${dtype} ${node.backward}`;
    let y = casts.get(key);
    if (!y) {
      casts.set(key, (y = result.temporary(`${value.name}.${dtype}`, dtype, value.dims)));
      result.nodes.push({ op: castDefinition, name: `${node.name}.cast`, inputs: [value], outputs: [y], attrs: [], backward: node.backward });
    }
    return y;
  };

  for (const node of graph.nodes) {
    const { op } = node;
    const half: DTypeName = scopes.some((s) => inScope(node, s)) ? 'f32' : 'bf16';
    const after: Node[] = [];
    const inputs = node.inputs.map((v, i) => {
      const value = v && (typed.get(v) ?? v);
      if (!value || (value.dtype !== 'f32' && value.dtype !== 'bf16')) return value;
      const wanted = listed(op.fullInputs, i) ? 'f32' : listed(op.mixedInputs, i) ? value.dtype : half;
      return value.dtype === wanted ? value : cast(value, wanted, node);
    });
    const outputs = node.outputs.map((v, i) => {
      if (!v || v.kind !== 'temporary' || v.dtype !== 'f32' || half === 'f32' || listed(op.fullOutputs, i)) return v;
      if (kept.has(v)) {
        if (listed(op.mixedOutputs, i)) return v;
        const rounded = result.temporary(`${v.name}.bf16`, 'bf16', v.dims);
        after.push({ op: castDefinition, name: `${node.name}.cast`, inputs: [rounded], outputs: [v], attrs: [], backward: node.backward });
        return rounded;
      }
      const value: Value = { ...v, dtype: 'bf16' };
      typed.set(v, value);
      result.values[v.id] = value;
      return value;
    });
    result.nodes.push({ ...node, inputs, outputs }, ...after);
  }
  for (const [name, v] of result.outputs) result.outputs.set(name, typed.get(v) ?? v);
  for (const v of graph.borders) {
    result.borders.delete(v);
    result.borders.add(typed.get(v) ?? v);
  }
  return result;
}

const listed = (list: readonly number[] | 'all' | undefined, i: number): boolean => list === 'all' || (list?.includes(i) ?? false);

/** What is kept, and the terms of its sums in the backward pass: a gradient is not rounded before it is summed. */
function withTerms(graph: Graph, keep: Iterable<Value>): Set<Value> {
  const kept = new Set(keep);
  for (const node of [...graph.nodes].reverse())
    if (node.backward && node.op === addDefinition && node.outputs.some((v) => v && kept.has(v)))
      for (const v of node.inputs) if (v?.kind === 'temporary') kept.add(v);
  return kept;
}
