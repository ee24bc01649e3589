import { LongerError } from '../errors.ts';
import type { GraphSpec, NodeSpec, StoreSpec, ValueSpec } from '../native/types.ts';
import { constantOf, type Dim } from './dim.ts';
import { type Graph, type Node, type Value } from './graph.ts';
import { prune } from './passes/prune.ts';
import { defaultTiling, tile, type Tiling } from './passes/tile.ts';

/** A place in persistent memory. */
export interface Placement {
  readonly store: string;
  /** Elements. */
  readonly offset: number;
}

/**
 * Where parameters live: every dense one in the flat store `dense`, every embedding table in a store of its own. A name
 * has the same place in every graph of a model, so that training, prefill and scoring share the memory. Parts of a matrix
 * stand one behind the other and count as that matrix, in the place of its first part.
 */
export class ParameterLayout {
  readonly dense = new Map<string, { offset: number; shape: number[]; value: Value }>();
  readonly tables = new Map<string, { shape: number[]; value: Value }>();
  readonly denseSize: number;
  readonly #parts = new Map<string, number>();

  constructor(parameters: Iterable<Value>) {
    const all = [...parameters];
    const partsOf = (name: string): Value[] => all.filter((v) => v.parameter?.part?.of === name).sort((a, b) => a.parameter!.part!.index - b.parameter!.part!.index);
    let offset = 0;
    for (const value of all) {
      const shape = value.dims.map(constantOf);
      const part = value.parameter?.part;
      if (value.parameter?.sparse) this.tables.set(value.name, { shape, value });
      else if (!part) this.dense.set(value.name, { offset, shape, value });
      else if (part.index > 0) continue;
      else {
        shape[0] = 0;
        this.dense.set(part.of, { offset, shape, value });
        for (const p of partsOf(part.of)) {
          this.#parts.set(p.name, offset + shape[0]! * shape[1]!);
          shape[0]! += constantOf(p.dims[0]!);
        }
      }
      if (!value.parameter?.sparse) offset += Math.ceil(shape.reduce((a, b) => a * b, 1) / 16) * 16; // 64-byte steps
    }
    this.denseSize = offset;
  }

  stores(): StoreSpec[] {
    return [
      { name: 'dense', dtype: 'f32', size: this.denseSize },
      ...[...this.tables].map(([name, t]) => ({ name: tableStore(name), dtype: 'f32' as const, size: t.shape[0]! * t.shape[1]! })),
    ];
  }

  place(name: string): Placement {
    const offset = this.dense.get(name)?.offset ?? this.#parts.get(name);
    if (offset !== undefined) return { store: 'dense', offset };
    if (this.tables.has(name)) return { store: tableStore(name), offset: 0 };
    throw new LongerError('ERR_GRAPH', `the parameter '${name}' is not part of this model`);
  }

  /** Trained numbers, dense and sparse. */
  count(): number {
    let n = 0;
    for (const { shape } of [...this.dense.values(), ...this.tables.values()]) n += shape.reduce((a, b) => a * b, 1);
    return n;
  }
}

export const tableStore = (name: string): string => `table.${name}`;

/**
 * The form that the addon compiles: what nothing reads is left out, and what `tiling` names runs tile by tile (passes/tile.ts).
 *
 * @param placed puts temporaries into persistent memory (gradients into one flat buffer)
 */
export function lower(
  whole: Graph,
  layout: ParameterLayout,
  placed: ReadonlyMap<Value, Placement> = new Map(),
  tiling: Tiling = defaultTiling,
): GraphSpec {
  const graph = tile(prune(whole, placed.keys()), tiling, placed.keys());
  const symbols = new Map<string, number>();
  const dim = (d: Dim): ValueSpec['dims'][number] => ({
    constant: d.constant,
    terms: [...d.terms].map(([name, c]) => {
      if (!symbols.has(name)) symbols.set(name, symbols.size);
      return [symbols.get(name)!, c] as const;
    }),
  });
  const outputNames = new Map<Value, string>();
  for (const [name, v] of graph.outputs) outputNames.set(v, name);

  const used = new Set<Value>(graph.inputs.values());
  for (const node of graph.nodes) for (const v of [...node.inputs, ...node.outputs, ...(node.tile?.roles.keys() ?? [])]) if (v) used.add(v);
  // Inputs that no node reads are not asked for.
  const read = new Set<Value>();
  for (const node of graph.nodes) for (const v of node.inputs) if (v) read.add(v);

  const index = new Map<Value, number>();
  const values: ValueSpec[] = [];
  for (const v of [...used].sort((a, b) => a.id - b.id)) {
    if (v.kind === 'input' && !read.has(v)) continue;
    index.set(v, values.length);
    values.push({ name: outputNames.get(v) ?? v.name, dtype: v.dtype, dims: v.dims.map(dim), ...placeOf(v, layout, placed, outputNames) });
  }
  const at = (v: Value | null): number => (v ? index.get(v)! : -1);
  const node = (n: Node): NodeSpec => ({
    op: n.op.name,
    name: n.name,
    inputs: n.inputs.map(at),
    outputs: n.outputs.map(at),
    attrs: n.attrs,
    ...(n.tile && {
      tile: {
        symbol: symbols.get(n.tile.symbol)!,
        rows: n.tile.rows,
        groupSize: n.tile.groupSize,
        offsets: at(n.tile.offsets),
        groupOffsets: at(n.tile.groupOffsets),
        roles: [...n.tile.roles].map(([v, role]) => [at(v), role] as const),
        body: n.tile.body.map(node),
      },
    }),
  });
  return { values, nodes: graph.nodes.map(node), symbols: [...symbols.keys()], ...(graph.tf32 && { tf32: true }) };
}

function placeOf(
  v: Value,
  layout: ParameterLayout,
  placed: ReadonlyMap<Value, Placement>,
  outputs: ReadonlyMap<Value, string>,
): Pick<ValueSpec, 'place' | 'store' | 'offset'> {
  const spot = placed.get(v) ?? (v.kind === 'parameter' ? layout.place(v.name) : v.store && { store: v.store.name, offset: v.store.offset });
  if (spot) return { place: 'store', ...spot };
  if (v.kind === 'input') return { place: 'input' };
  return { place: outputs.has(v) ? 'output' : 'arena' };
}
