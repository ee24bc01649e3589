import { sameDim, symbol as symbolDim } from '../dim.ts';
import { type Graph, type Node, type OpDefinition, rowsOf, type Tile, type TileRole, type Value } from '../graph.ts';

/** What runs tile by tile: operations on the rows of these symbols, about so many rows at a time. */
export interface Tiling {
  readonly symbols: readonly string[];
  readonly rows: number;
}

/** Events are many narrow rows: a few hundred of them, with all that is computed of them, fit in a core's cache. */
export const defaultTiling: Tiling = { symbols: ['events'], rows: 512 };

export const noTiling: Tiling = { symbols: [], rows: 0 };

const tiledDefinition: OpDefinition = { name: 'tiled' };

type Roles = Map<Value, TileRole | 'inner'>;

interface Rule {
  readonly inputs: readonly (TileRole | null)[];
  readonly outputs: readonly (TileRole | null)[];
  readonly groupSize: number;
}

/** The roles of the node's operands when the rows of `symbol` are cut; null where it cannot run on a tile of them. */
function ruleOf(node: Node, symbol: string): Rule | null {
  const rule = node.op.tile;
  if (!rule || node.op.inPlace) return null;
  const given = typeof rule.inputs === 'function' ? rule.inputs(node) : rule.inputs;
  const spread = (values: readonly (Value | null)[], roles: readonly TileRole[]): (TileRole | null)[] =>
    values.map((v, i) => (v ? roles[Math.min(i, roles.length - 1)]! : null));
  const inputs = spread(node.inputs, given);
  const outputs = spread(node.outputs, rule.outputs);
  const rows = symbolDim(symbol);
  const cut = (v: Value): boolean => rowsOf(v).terms.size === 1 && rowsOf(v).terms.get(symbol) === 1;
  const fits = (values: readonly (Value | null)[], roles: readonly (TileRole | null)[]): boolean => values.every((v, i) => roles[i] !== 'row' || cut(v!));
  if (![...inputs, ...outputs].includes('row') || !fits(node.inputs, inputs) || !fits(node.outputs, outputs)) return null;
  if (node.outputs.some((v, i) => outputs[i] === 'row' && !sameDim(rowsOf(v!), rows))) return null;
  return { inputs, outputs, groupSize: rule.groupSize === undefined ? 1 : node.attrs[rule.groupSize]! };
}

/**
 * Forward values that the backward pass need not keep when it runs tile by tile: a tile computes them again while its
 * rows are in the cache. Those that anything else of the backward pass reads stay.
 */
export function tileTemporaries(graph: Graph, { symbols }: Tiling = defaultTiling): Set<Value> {
  const found = new Set<Value>();
  for (const symbol of symbols) {
    const outputs = new Set(graph.outputs.values());
    const read = new Set<Value>();
    const elsewhere = new Set<Value>();
    for (const node of graph.nodes) {
      if (!node.backward) continue;
      const tiled = ruleOf(node, symbol) !== null;
      for (const v of node.inputs) if (v) (tiled ? read : elsewhere).add(v);
    }
    for (const node of graph.nodes) {
      if (node.backward) continue;
      const rule = ruleOf(node, symbol);
      if (rule) node.outputs.forEach((v, i) => { if (v && rule.outputs[i] === 'row' && read.has(v) && !elsewhere.has(v) && !outputs.has(v)) found.add(v); });
    }
  }
  return found;
}

/** Nodes that are to become one, while the graph is walked. */
class Cluster {
  readonly nodes: Node[] = [];
  readonly symbol: string;
  readonly rows: number;
  readonly #produced = new Set<Value>();
  readonly #roles: Roles = new Map();
  /** Results of other nodes that depend on this cluster's: no node that reads one can join. */
  readonly #after = new Set<Value>();
  /** Other nodes, met after the first member: those that depend on the cluster, and those since the last member. */
  readonly #deferred: Node[] = [];
  #pending: Node[] = [];
  #groupSize = 1;

  constructor(symbol: string, rows: number) {
    this.symbol = symbol;
    this.rows = rows;
  }

  /** Takes the node in, if every operand is seen the same way by all members; `before` gets nodes that move in front. */
  join(node: Node, rule: Rule, before: Node[]): boolean {
    if (this.nodes.length > 0 && this.nodes[0]!.backward !== node.backward) return false;
    if (this.#groupSize > 1 && rule.groupSize > 1 && this.#groupSize !== rule.groupSize) return false;
    const roles: Roles = new Map();
    const sees = (v: Value | null, role: TileRole | null): boolean => {
      if (!v || !role) return true;
      if (this.#after.has(v) || (role !== 'row' && this.#produced.has(v))) return false;
      const known = this.#roles.get(v) ?? roles.get(v);
      if (known !== undefined && known !== role) return false;
      roles.set(v, role);
      return true;
    };
    if (!node.inputs.every((v, i) => sees(v, rule.inputs[i]!)) || !node.outputs.every((v, i) => sees(v, rule.outputs[i]!))) return false;
    // One way to cut segments, one way to cut groups.
    for (const role of ['offsets', 'groupOffsets'] as const)
      if (new Set([...this.#roles, ...roles].filter(([, r]) => r === role).map(([v]) => v)).size > 1) return false;
    for (const [v, role] of roles) this.#roles.set(v, role);
    for (const v of node.outputs) if (v) this.#produced.add(v);
    this.#groupSize = Math.max(this.#groupSize, rule.groupSize);
    for (const n of this.#pending) (this.#dependent(n) ? this.#deferred : before).push(n);
    this.#pending = [];
    this.nodes.push(node);
    return true;
  }

  /** A node between the members. */
  pass(node: Node): void {
    if (node.inputs.some((v) => v && (this.#produced.has(v) || this.#after.has(v)))) for (const v of node.outputs) if (v) this.#after.add(v);
    this.#pending.push(node);
  }

  /** The cluster as one node (alone, a node stays as it is) and what has to run after it. */
  close(graph: Graph, readers: ReadonlyMap<Value, ReadonlySet<Node>>, kept: ReadonlySet<Value>): Node[] {
    return [...(this.nodes.length > 1 ? [this.#node(graph, readers, kept)] : this.nodes), ...this.#deferred, ...this.#pending];
  }

  #dependent(node: Node): boolean {
    return node.outputs.some((v) => v && this.#after.has(v));
  }

  #node(graph: Graph, readers: ReadonlyMap<Value, ReadonlySet<Node>>, kept: ReadonlySet<Value>): Node {
    const members = new Set(this.nodes);
    const outputs = [...this.#produced].filter(
      (v) => kept.has(v) || this.#roles.get(v) !== 'row' || [...(readers.get(v) ?? [])].some((n) => !members.has(n)),
    );
    const roles: Roles = new Map(this.#roles);
    for (const v of this.#produced) if (!outputs.includes(v)) roles.set(v, 'inner');
    const of = (role: TileRole): Value | null => [...roles].find(([, r]) => r === role)?.[0] ?? null;
    const tile: Tile = { symbol: this.symbol, rows: this.rows, groupSize: this.#groupSize, offsets: of('offsets'), groupOffsets: of('groupOffsets'), roles, body: this.nodes };
    const name = `tiled.${this.symbol}${this.nodes[0]!.backward ? '.backward' : ''}`;
    return {
      op: tiledDefinition,
      name: graph.unique(name),
      inputs: [...roles.keys()].filter((v) => !this.#produced.has(v)),
      outputs,
      attrs: [],
      backward: this.nodes[0]!.backward,
      tile,
    };
  }
}

/**
 * Joins neighbouring operations on the rows of a symbol into `tiled` nodes, which run all of them on a few hundred rows
 * at a time: their intermediate values stay in the cache and have no place in memory. Forward and backward apart, and
 * only as far as nothing outside has to run in between. Changes no bit of a forward value; sums over rows (weight
 * gradients) are added up in another order. Comes last of all passes.
 *
 * @param keep values that are read from outside the graph, beside its outputs
 */
export function tile(graph: Graph, { symbols, rows }: Tiling = defaultTiling, keep: Iterable<Value> = []): Graph {
  const kept = new Set<Value>([...graph.outputs.values(), ...keep]);
  let nodes: readonly Node[] = graph.nodes;
  for (const symbol of symbols) {
    const readers = new Map<Value, Set<Node>>();
    for (const node of nodes)
      for (const v of node.inputs) {
        if (!v) continue;
        const known = readers.get(v);
        if (known) known.add(node);
        else readers.set(v, new Set([node]));
      }
    const result: Node[] = [];
    let open = new Cluster(symbol, rows);
    const close = (): void => {
      result.push(...open.close(graph, readers, kept));
      open = new Cluster(symbol, rows);
    };
    for (const node of nodes) {
      const rule = node.tile ? null : ruleOf(node, symbol);
      // What is written in place is not moved across.
      if (node.op.inPlace) close();
      if (!rule) open.pass(node);
      else if (!open.join(node, rule, result)) {
        close();
        if (!open.join(node, rule, result)) open.pass(node);
      }
    }
    close();
    nodes = result;
  }
  return graph.rewrite(nodes);
}
