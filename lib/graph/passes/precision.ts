import { LongerError } from '../../errors.ts';
import type { Backend, DTypeName } from '../../native/types.ts';
import { nearest } from '../../schema/suggest.ts';
import { type Graph, type Node, type Value } from '../graph.ts';
import { addDefinition } from '../ops/add.ts';
import { castDefinition } from '../ops/cast.ts';

/**
 * How the values of a graph are held (paper 3.5, "chosen per model part"):
 * - `fp32`: all in f32.
 * - `tf32`: all in f32, and products of matrices take TF32 numbers, 11 bits of each factor. On a GPU only.
 * - `bf16`: temporaries in bf16, save for what operations declare full: statistics, loss, gradients of parameters. Sums
 *   run in f32; parameters, tables and optimizer state are f32.
 * - `fp16`: the same in f16, which has 11 bits for bf16's 8 and numbers up to 65,504: training scales the loss
 *   (`TrainOptions.gradScaler`). On a GPU only.
 * - an object: bf16 or fp16, and every operation inside the scopes named in `full` in f32.
 */
export type Precision = 'fp32' | 'tf32' | 'bf16' | 'fp16' | { readonly mode: 'bf16' | 'fp16'; readonly full: readonly string[] };

/** Without what stays f32. */
export const modeOf = (policy: Precision): Extract<Precision, string> => (typeof policy === 'string' ? policy : policy.mode);

const narrowTypes = { bf16: 'bf16', fp16: 'f16' } as const;

/** Whether a scope (one or more names joined by dots) stands somewhere in the path of a node. */
const inScope = (node: Node, scope: string): boolean => `.${node.name}.`.includes(`.${scope}.`);

/** Whether the policy keeps this operation in f32. */
export const staysFull = (node: Node, policy: Precision): boolean => typeof policy === 'object' && policy.full.some((scope) => inScope(node, scope));

/**
 * Checks a policy against the graph that it is meant for.
 * @param place the setting's name, for errors
 * @param backend what the graph is to run on
 * @throws LongerError ERR_CONFIG for an unknown mode, for fp16 and tf32 on the CPU, and for a scope that holds no operation
 */
export function checkPrecision(policy: unknown, graph: Graph, place: string, backend: Backend): asserts policy is Precision {
  const mode = typeof policy === 'object' && policy !== null ? (policy as { mode?: unknown }).mode : policy;
  if (mode !== 'bf16' && mode !== 'fp16' && ((mode !== 'fp32' && mode !== 'tf32') || typeof policy === 'object'))
    throw new LongerError('ERR_CONFIG', `expected "fp32", "tf32", "bf16", "fp16" or { "mode": "bf16" or "fp16", "full": [scopes] }, got ${JSON.stringify(policy)}`, { place });
  if (backend === 'cpu' && (mode === 'fp16' || mode === 'tf32'))
    throw new LongerError('ERR_CONFIG', `${mode} runs on CUDA, the CPU computes in fp32 and bf16`, { place, remedy: `Use ${mode === 'fp16' ? 'bf16 or fp32' : 'fp32'} on the CPU, or the device of a GPU` });
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
 * Retypes the f32 temporaries of a graph to bf16 or f16 and inserts a `cast` where an operation is given the other type than the
 * one it computes in. What an operation writes depends on the operation, its scope and `keep` alone, never on its readers:
 * a value has the same bits in every graph that computes it.
 *
 * @param keep values that stay f32 whatever computes them (logits, placed gradients); they remain the same objects
 */
export function precision(graph: Graph, policy: Precision, keep: Iterable<Value> = []): Graph {
  const mode = modeOf(policy);
  if (mode === 'fp32') return graph;
  if (mode === 'tf32') {
    const same = graph.rewrite(graph.nodes);
    same.tf32 = true;
    return same;
  }
  const narrow = narrowTypes[mode];
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
    const half: DTypeName = staysFull(node, policy) ? 'f32' : narrow;
    const after: Node[] = [];
    const inputs = node.inputs.map((v, i) => {
      const value = v && (typed.get(v) ?? v);
      if (!value || (value.dtype !== 'f32' && value.dtype !== narrow)) return value;
      const wanted = listed(op.fullInputs, i) ? 'f32' : listed(op.mixedInputs, i) ? value.dtype : half;
      return value.dtype === wanted ? value : cast(value, wanted, node);
    });
    const outputs = node.outputs.map((v, i) => {
      if (!v || v.kind !== 'temporary' || v.dtype !== 'f32' || half === 'f32' || listed(op.fullOutputs, i)) return v;
      if (kept.has(v)) {
        if (listed(op.mixedOutputs, i)) return v;
        const rounded = result.temporary(`${v.name}.${narrow}`, narrow, v.dims);
        after.push({ op: castDefinition, name: `${node.name}.cast`, inputs: [rounded], outputs: [v], attrs: [], backward: node.backward });
        return rounded;
      }
      const value: Value = { ...v, dtype: narrow };
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
