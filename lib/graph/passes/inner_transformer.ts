import type { Backend } from '../../native/types.ts';
import { constantOf } from '../dim.ts';
import { type Graph, type Node, type OpDefinition, type Value, widthOf } from '../graph.ts';
import { activationCode } from '../ops/activation.ts';
import { addDefinition } from '../ops/add.ts';
import { groupAttentionDefinition } from '../ops/group_attention.ts';
import { innerTransformerDefinition, innerTransformerOperands } from '../ops/inner_transformer.ts';
import { linearDefinition } from '../ops/linear.ts';
import { normDefinition } from '../ops/norm.ts';
import { modeOf, type Precision, staysFull } from './precision.ts';

/** What a graph is made for. A `Runtime` is one. */
export interface Target {
  readonly backend: Backend;
}

export const cpuTarget: Target = { backend: 'cpu' };

/** Those that the kernels have: of wider ones the gradients of the weights do not fit into registers. */
const widths: readonly number[] = [16, 32];

/**
 * Makes one operation of every block whose attention stays within groups of events (group_attention, its norm and projections before, projection and
 * GELU FFN behind), where it runs on a device in bf16 or f16, and of the sum of its result and what it began with. What is no such block, has
 * another width, a group size that does not divide 16, heads of an odd width, a gate, dropout or SwiGLU, or is in part kept in f32, stays as it is. Comes
 * before the gradient; all graphs of a model must go through it alike, since its results are rounded less often than those of the parts.
 */
export function fuseInnerTransformers(graph: Graph, policy: Precision, target: Target): Graph {
  const mode = modeOf(policy);
  if (target.backend !== 'cuda' || (mode !== 'bf16' && mode !== 'fp16')) return graph;
  const uses = new Uses(graph);
  const gone = new Set<Node>();
  const put = new Map<Node, Node>(); // in the place of the last node of the block
  for (const node of graph.nodes) {
    if (node.op !== groupAttentionDefinition) continue;
    const found = blockAround(node, uses);
    if (!found || found.nodes.some((n) => staysFull(n, policy)) || uses.producersOf(found.x).some((n) => staysFull(n, policy))) continue;
    for (const n of found.nodes) gone.add(n);
    put.set(found.nodes.at(-1)!, found.node);
  }
  return put.size === 0 ? graph : graph.rewrite(graph.nodes.flatMap((n) => put.get(n) ?? (gone.has(n) ? [] : [n])));
}

/** Who makes a value and who reads it. */
class Uses {
  readonly #makers = new Map<Value, Node>();
  readonly #readers = new Map<Value, Node[]>();
  readonly #outputs: ReadonlySet<Value>;

  constructor(graph: Graph) {
    this.#outputs = new Set(graph.outputs.values());
    for (const node of graph.nodes) {
      for (const v of node.outputs) if (v) this.#makers.set(v, node);
      for (const v of new Set(node.inputs)) if (v) this.#readers.set(v, [...(this.#readers.get(v) ?? []), node]);
    }
  }

  producersOf(value: Value): Node[] {
    const node = this.#makers.get(value);
    return node ? [node] : [];
  }

  /** The node that makes the value, where that is this operation. */
  maker(value: Value | null | undefined, op: OpDefinition): Node | null {
    const node = value && this.#makers.get(value);
    return node?.op === op ? node : null;
  }

  /** Those that read a value that exists for them alone. */
  readers(value: Value): readonly Node[] {
    return this.#outputs.has(value) ? [] : (this.#readers.get(value) ?? []);
  }
}

interface Block {
  readonly x: Value;
  readonly node: Node;
  readonly nodes: readonly Node[];
}

function blockAround(attention: Node, uses: Uses): Block | null {
  const [heads, scale, groupSize] = attention.attrs as [number, number, number];
  const [q, k, v] = attention.inputs.slice(0, 3).map((a) => plainLinear(uses.maker(a, linearDefinition), null, uses, attention));
  const norm1 = uses.maker(q?.inputs[0], normDefinition);
  const x = norm1?.inputs[0];
  if (!q || !k || !v || !norm1 || !x || ![k, v].every((n) => n.inputs[0] === q.inputs[0]) || uses.readers(q.inputs[0]!).length !== 3) return null;
  const width = widthOf(x);
  if (!widths.includes(width) || 16 % groupSize !== 0 || (width / heads) % 2 !== 0) return null;

  const [outReader, ...others] = uses.readers(attention.outputs[0]!);
  const out = others.length === 0 ? plainLinear(outReader, x, uses) : null;
  const r = out?.outputs[0];
  const norm2 = r && uses.readers(r).find((n) => n.op === normDefinition);
  const [upReader] = norm2 ? uses.readers(norm2.outputs[0]!) : [];
  const up = upReader?.op === linearDefinition && upReader.attrs[0] === activationCode.gelu && upReader.inputs[2] && !upReader.inputs[3] ? upReader : null;
  const [downReader] = up ? uses.readers(up.outputs[0]!) : [];
  const down = plainLinear(downReader, r ?? null, uses);
  if (!out || !r || !norm2 || !up || !down) return null;
  const square = [q, k, v, out].every((n) => isMatrix(n.inputs[1]!, width, width));
  if (!square || !isMatrix(up.inputs[1]!, width, 4 * width) || !isMatrix(down.inputs[1]!, 4 * width, width)) return null;
  if (norm1.attrs.join() !== norm2.attrs.join() || uses.readers(r).length !== 2 || uses.readers(norm2.outputs[0]!).length !== 1 || uses.readers(up.outputs[0]!).length !== 1) return null;

  const y = down.outputs[0]!;
  const [sum, ...more] = uses.readers(y);
  const outer = sum?.op === addDefinition && more.length === 0 && sum.inputs.length === 2 && sum.inputs.includes(x);
  const nodes = [norm1, q, k, v, attention, out, norm2, up, down, ...(outer ? [sum] : [])];
  const both = (n: Node): readonly [Value, Value] => [n.inputs[1]!, n.inputs[2]!];
  const parameters = {
    gain1: norm1.inputs[1]!, shift1: norm1.inputs[2] ?? null, query: both(q), key: both(k), value: both(v), out: both(out),
    gain2: norm2.inputs[1]!, shift2: norm2.inputs[2] ?? null, up: both(up), down: both(down),
  };
  const node: Node = {
    op: innerTransformerDefinition,
    name: [...attention.name.split('.').slice(0, -1), innerTransformerDefinition.name].join('.'),
    ...innerTransformerOperands(x, attention.inputs[3]!, parameters, { heads, scale, groupSize, norm: norm1.attrs[0]!, eps: norm1.attrs[1]!, outer }),
    outputs: [outer ? sum.outputs[0]! : y],
    backward: false,
  };
  return { x, node, nodes };
}

/** The node if it is a product with a bias, no activation and this residual, read by `reader` alone where one is named. */
function plainLinear(node: Node | null | undefined, residual: Value | null, uses: Uses, reader?: Node): Node | null {
  if (node?.op !== linearDefinition || node.attrs[0] !== activationCode.none || !node.inputs[2] || (node.inputs[3] ?? null) !== residual) return null;
  const readers = uses.readers(node.outputs[0]!);
  return reader && (readers.length !== 1 || readers[0] !== reader) ? null : node;
}

const isMatrix = (w: Value, rows: number, columns: number): boolean => w.kind === 'parameter' && constantOf(w.dims[0]!) === rows && constantOf(w.dims[1]!) === columns;
