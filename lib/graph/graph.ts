import { LongerError } from '../errors.ts';
import { elementBytes } from '../native/dtype.ts';
import type { DTypeName } from '../native/types.ts';
import { constantOf, type Dim, fixed, sameDim, showDim, sizeOf, symbol, type Symbols } from './dim.ts';

/** How a parameter starts. `copy` gives the bits of another parameter times a factor. */
export type Init =
  | { readonly kind: 'constant'; readonly value: number }
  | { readonly kind: 'normal'; readonly std: number }
  /** Normal, of standard deviation gain / sqrt(rows). */
  | { readonly kind: 'fan-in'; readonly gain: number }
  | { readonly kind: 'copy'; readonly of: string; readonly scale: number }
  /** [d, K*d]: K identity matrices side by side, times a factor. */
  | { readonly kind: 'identity-tiles'; readonly scale: number };

export interface ParameterInfo {
  readonly init: Init;
  /** Weight decay applies (matrices do, biases and norm gains do not). */
  readonly decay: boolean;
  /** A table is updated sparsely, by row. */
  readonly sparse: boolean;
  /** The rows that follow those of part `index - 1` of the matrix `of`: it starts, learns and is saved under that name, by what part 0 says. */
  readonly part?: { readonly of: string; readonly index: number };
}

/**
 * input: given by the caller at every run; parameter: persistent and trained; state: persistent, owned by the step
 * (optimizer state, flat views); temporary: computed.
 */
export type ValueKind = 'input' | 'parameter' | 'state' | 'temporary';

export interface Value {
  readonly id: number;
  readonly name: string;
  readonly kind: ValueKind;
  readonly dtype: DTypeName;
  readonly dims: readonly Dim[];
  readonly parameter?: ParameterInfo;
  /** Persistent place of a state value: store name and element offset. */
  readonly store?: { readonly name: string; readonly offset: number };
}

/** Gradients are asked for and given through this. */
export interface GradientContext {
  readonly graph: Graph;
  /** Whether the gradient of this value leads to a parameter. */
  wants(value: Value | null): boolean;
  /** Reports a use of an embedding table, whose gradient stays sparse. */
  sparse(use: SparseUse): void;
}

export interface SparseUse {
  readonly table: Value;
  readonly ids: Value;
  readonly offsets: Value | null;
  readonly dy: Value;
  readonly column: number;
  readonly pooling: number;
}

/**
 * How a tile, the rows [a, b) of a batch, sees an operand of an operation that can run on a tile alone (passes/tile.ts).
 * - `row`: its rows a to b (one more where the value has one more, as offsets have)
 * - `whole`: all of it
 * - `sum`: an output that is summed over rows, hence over tiles
 * - `offsets`: where segments of the rows begin, cut to the tile and counted from a
 * - `segment`: the rows of those segments, one each
 * - `groupOffsets`, `group`: the same for groups of rows: `groupSize` rows each, counted from the end of their segment
 */
export type TileRole = 'row' | 'whole' | 'sum' | 'offsets' | 'segment' | 'groupOffsets' | 'group';

/** Roles of the operands in order; the last stands for all that follow. */
export interface TileRule {
  readonly inputs: readonly TileRole[] | ((node: Node) => readonly TileRole[]);
  readonly outputs: readonly TileRole[];
  /** Index of the attribute that is the group size: a tile begins and ends at the border of a group. */
  readonly groupSize?: number;
}

/** Every operand goes row by row. */
export const rowWise: TileRule = { inputs: ['row'], outputs: ['row'] };

/** What is known of an operation: one file each under ops/. */
export interface OpDefinition {
  readonly name: string;
  /** Forward cost in FLOPs (2 a multiply-add, no discount for causality: spec 4.2); absent means it moves data only. */
  readonly flops?: (node: Node, sizes: Symbols) => number;
  /** Gradients with respect to the inputs, null where there is none. `dy` is null for an output that nothing uses. */
  readonly gradient?: (node: Node, dy: readonly (Value | null)[], context: GradientContext) => readonly (Value | null)[];
  /** Indices of outputs that may be left out when nothing reads them. */
  readonly optionalOutputs?: readonly number[];
  /** Writes persistent memory in place, so it runs even when nothing reads its outputs. */
  readonly inPlace?: boolean;
  /**
   * How passes/precision.ts types the float operands of a graph in bf16 or f16. Full ones are f32 always; mixed ones may be
   * f32 or the narrow type, whatever the others are; all others are narrow together (or f32 together, in a part that stays f32).
   */
  readonly fullOutputs?: readonly number[] | 'all';
  readonly fullInputs?: readonly number[] | 'all';
  readonly mixedOutputs?: readonly number[] | 'all';
  readonly mixedInputs?: readonly number[] | 'all';
  /** How it runs on a tile of rows; absent where it needs all rows at once. */
  readonly tile?: TileRule;
}

export interface Node {
  readonly op: OpDefinition;
  readonly name: string;
  readonly inputs: readonly (Value | null)[];
  readonly outputs: readonly (Value | null)[];
  readonly attrs: readonly number[];
  /** Part of the backward pass. */
  readonly backward: boolean;
  /** Computes again what the forward pass has not kept: no work of the model, so its FLOPs do not count. */
  readonly again?: boolean;
  /** The nodes that a `tiled` node runs, tile after tile. */
  readonly tile?: Tile;
}

/** The inside of a `tiled` node. */
export interface Tile {
  /** Whose rows are cut into tiles. */
  readonly symbol: string;
  /** Most rows of a tile; one has at least a group. */
  readonly rows: number;
  /** A tile begins and ends at a border of groups of this many rows. */
  readonly groupSize: number;
  readonly offsets: Value | null;
  readonly groupOffsets: Value | null;
  /** Of every value that the body touches; `inner` ones exist inside a tile only. */
  readonly roles: ReadonlyMap<Value, TileRole | 'inner'>;
  readonly body: readonly Node[];
}

/** A program of coarse operations in the order in which they run. */
export class Graph {
  readonly values: Value[] = [];
  readonly nodes: Node[] = [];
  readonly inputs = new Map<string, Value>();
  readonly outputs = new Map<string, Value>();
  readonly parameters = new Map<string, Value>();
  /** Values that a recompute policy keeps: the borders of blocks. */
  readonly borders = new Set<Value>();
  /** Products of f32 may take TF32 numbers (passes/precision.ts). */
  tf32 = false;
  readonly #scope: string[] = [];
  #names = new Map<string, number>();
  #backward = false;

  /** Names of nodes and temporaries made inside start with `name`, said once: `inner0.norm1` within `inner0` adds `norm1`. */
  scope<T>(name: string, body: () => T): T {
    const outer = this.#scope.length;
    const parts = name.split('.');
    let said = Math.min(outer, parts.length);
    while (parts.slice(0, said).some((part, i) => part !== this.#scope[outer - said + i])) --said;
    this.#scope.push(...parts.slice(said));
    try {
      return body();
    } finally {
      this.#scope.length = outer;
    }
  }

  /** Nodes made inside belong to the backward pass. */
  inBackward<T>(body: () => T): T {
    const before = this.#backward;
    this.#backward = true;
    try {
      return body();
    } finally {
      this.#backward = before;
    }
  }

  path(name: string): string {
    return [...this.#scope, name].join('.');
  }

  input(name: string, dtype: DTypeName, dims: readonly Dim[]): Value {
    const known = this.inputs.get(name);
    if (known) {
      if (known.dtype !== dtype || known.dims.length !== dims.length || known.dims.some((d, i) => !sameDim(d, dims[i]!)))
        throw new LongerError('ERR_GRAPH', `the input '${name}' was declared twice with different shapes: ${show(known)}`);
      return known;
    }
    const value = this.#add({ name, kind: 'input', dtype, dims });
    this.inputs.set(name, value);
    return value;
  }

  /** Declares a trained value, or returns the one of that name (sharing). The name is not scoped. */
  parameter(name: string, shape: readonly number[], info: ParameterInfo): Value {
    const known = this.parameters.get(name);
    if (known) {
      if (known.dims.length !== shape.length || known.dims.some((d, i) => constantOf(d) !== shape[i]))
        throw new LongerError('ERR_GRAPH', `the parameter '${name}' is shared with another shape: ${show(known)} and [${shape.join(', ')}]`);
      return known;
    }
    const value = this.#add({ name, kind: 'parameter', dtype: 'f32', dims: shape.map(fixed), parameter: info });
    this.parameters.set(name, value);
    return value;
  }

  state(name: string, dtype: DTypeName, shape: readonly number[], store: string, offset = 0): Value {
    return this.#add({ name, kind: 'state', dtype, dims: shape.map(fixed), store: { name: store, offset } });
  }

  temporary(name: string, dtype: DTypeName, dims: readonly Dim[]): Value {
    return this.#add({ name: this.unique(this.path(name)), kind: 'temporary', dtype, dims });
  }

  /** A value of the same shape and dtype. */
  like(value: Value, name: string): Value {
    return this.#add({ name: this.unique(this.path(name)), kind: 'temporary', dtype: value.dtype, dims: value.dims });
  }

  emit(op: OpDefinition, inputs: readonly (Value | null)[], outputs: readonly (Value | null)[], attrs: readonly number[] = []): void {
    this.nodes.push({ op, name: this.path(op.name), inputs, outputs, attrs, backward: this.#backward });
  }

  output(name: string, value: Value): void {
    if (value.kind !== 'temporary') throw new LongerError('ERR_GRAPH', `the output '${name}' must be a computed value, not the ${value.kind} '${value.name}'`);
    this.outputs.set(name, value);
  }

  /** Marks the value as the border of a block. */
  border(value: Value): Value {
    this.borders.add(value);
    return value;
  }

  /** The same values with other nodes: what a pass returns. */
  rewrite(nodes: readonly Node[], outputs: ReadonlyMap<string, Value> = this.outputs): Graph {
    const graph = new Graph();
    graph.values.push(...this.values);
    graph.nodes.push(...nodes);
    for (const [k, v] of this.inputs) graph.inputs.set(k, v);
    for (const [k, v] of outputs) graph.outputs.set(k, v);
    for (const [k, v] of this.parameters) graph.parameters.set(k, v);
    for (const v of this.borders) graph.borders.add(v);
    graph.tf32 = this.tf32;
    graph.#names = new Map(this.#names);
    return graph;
  }

  /** FLOPs of all nodes; what is computed a second time counts once. */
  flops(sizes: Symbols): number {
    const of = (nodes: readonly Node[]): number => nodes.reduce((sum, n) => sum + (n.again ? 0 : n.tile ? of(n.tile.body) : (n.op.flops?.(n, sizes) ?? 0)), 0);
    return of(this.nodes);
  }

  /** Bytes read and written by all nodes, each value once a node. */
  bytes(sizes: Symbols): number {
    let total = 0;
    for (const node of this.nodes)
      for (const value of [...node.inputs, ...node.outputs]) if (value) total += bytesOf(value, sizes);
    return total;
  }

  toString(): string {
    const lines = [...this.inputs.values()].map((v) => `input ${show(v)}`);
    for (const v of this.parameters.values()) lines.push(`parameter ${show(v)}`);
    const print = (node: Node, indent: string): void => {
      const outs = node.outputs.map((v) => (v ? show(v) : '_')).join(', ');
      const ins = node.inputs.map((v) => v?.name ?? '_').join(', ');
      lines.push(`${indent}${outs} = ${node.op.name}(${ins})${node.attrs.length > 0 ? ` [${node.attrs.join(', ')}]` : ''}`);
      for (const inner of node.tile?.body ?? []) print(inner, `${indent}  `);
    };
    for (const node of this.nodes) print(node, '');
    for (const [name, v] of this.outputs) lines.push(`output ${name} = ${v.name}`);
    return lines.join('\n');
  }

  /** GraphViz text: boxes are operations, arrows carry shapes. */
  toDot(): string {
    const quote = (s: string): string => JSON.stringify(s);
    const lines = ['digraph longer {', '  node [shape=box, fontname="sans-serif"];'];
    const producer = new Map<Value, string>();
    for (const v of this.inputs.values()) {
      lines.push(`  ${quote(v.name)} [shape=ellipse];`);
      producer.set(v, v.name);
    }
    this.nodes.forEach((node, i) => {
      const id = `n${i}`;
      lines.push(`  ${id} [label=${quote([node.name, ...(node.tile?.body ?? []).map((n) => n.name)].join('\n'))}];`);
      for (const v of node.inputs) {
        const from = v && producer.get(v);
        if (from !== null && from !== undefined) lines.push(`  ${quote(from)} -> ${id} [label=${quote(v!.dims.map(showDim).join(' x '))}];`);
      }
      for (const v of node.outputs) if (v && v.kind === 'temporary') producer.set(v, id);
    });
    return [...lines, '}'].join('\n');
  }

  #add(value: Omit<Value, 'id'>): Value {
    const full = { ...value, id: this.values.length };
    this.values.push(full);
    return full;
  }

  /** The name, with a number where it is taken. */
  unique(name: string): string {
    const n = this.#names.get(name) ?? 0;
    this.#names.set(name, n + 1);
    return n === 0 ? name : `${name}#${n}`;
  }
}

export const show = (v: Value): string => `${v.name}:${v.dtype}[${v.dims.map(showDim).join(', ')}]`;

export function elementsOf(value: Value, sizes: Symbols): number {
  return value.dims.reduce((n, d) => n * sizeOf(d, sizes), 1);
}

export function bytesOf(value: Value, sizes: Symbols): number {
  return elementsOf(value, sizes) * elementBytes[value.dtype];
}

/** The constant width of the last dim. */
export function widthOf(value: Value): number {
  return constantOf(value.dims.at(-1) ?? fixed(1));
}

export function rowsOf(value: Value): Dim {
  return value.dims[0] ?? fixed(1);
}

/** @throws LongerError ERR_GRAPH unless the rows agree. */
export function expectRows(op: string, a: Value, b: Value): void {
  if (!sameDim(rowsOf(a), rowsOf(b))) throw new LongerError('ERR_GRAPH', `${op}: rows differ: ${show(a)} and ${show(b)}`);
}

/** @throws LongerError ERR_GRAPH unless the last dim has this width. */
export function expectWidth(op: string, value: Value, width: number): void {
  if (widthOf(value) !== width) throw new LongerError('ERR_GRAPH', `${op}: expected width ${width}, got ${show(value)}`);
}

export { fixed, symbol };
