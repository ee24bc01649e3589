import { type Graph, type Init, type Value, widthOf } from '../graph/graph.ts';
import { gate } from '../graph/ops/gate.ts';
import { dropout } from '../graph/ops/dropout.ts';
import { swiglu } from '../graph/ops/swiglu.ts';
import { add } from '../graph/ops/add.ts';
import type { NormKind } from '../graph/ops/norm.ts';
import { dense, normalInit, normalise, zeros } from './layers.ts';

/** What the blocks of one model have in common. */
export interface BlockStyle {
  readonly norm: NormKind;
  readonly ffn: 'gelu' | 'swiglu';
  /** Sigmoid gate on the attention's output. */
  readonly gate: boolean;
  readonly dropout: number;
  /** Logit of a row with itself at the start (LongerConfig.attentionGain). */
  readonly attentionGain: number;
}

/**
 * A pre-norm encoder block (spec 3.1: four projections, 4x FFN, two norms, biases) in pieces, so that the rows that ask
 * and the rows that answer can differ. Every piece names its parameters by the block's name: rows of the history and
 * rows of a candidate that call the same block share its weights.
 */
export interface Block {
  readonly normed: (x: Value) => Value;
  readonly query: (normed: Value) => Value;
  readonly keys: (normed: Value) => { readonly k: Value; readonly v: Value };
  /** After attention: gate, output projection, residual, FFN, residual. */
  readonly finish: (x: Value, normed: Value, attended: Value) => Value;
}

export function block(graph: Graph, name: string, width: number, heads: number, style: BlockStyle): Block {
  // An attention that starts as the identity matches content and carries what it matched in place: with one head a place
  // of the merged token, from the first step. Random starts stay on a plateau many times as long, the longer the wider.
  // A normalised row has a squared length of w in a head of w columns, so its logit with itself is scale^2 sqrt(w).
  const attentionInit = identity(Math.sqrt(style.attentionGain / Math.sqrt(width / heads)));
  const keyInit: Init = { kind: 'copy', of: `${name}.qkv.query.weight`, scale: 1 };
  const inScope = <T>(scope: string, body: () => T): T => graph.scope(`${name}.${scope}`, body);
  let stream = hashStream(name);

  return {
    normed: (x) => inScope('norm1', () => normalise(graph, `${name}.norm1`, x, style.norm)),
    query: (normed) => inScope('qkv', () => dense(graph, `${name}.qkv.query`, normed, width, { init: attentionInit })),
    keys: (normed) =>
      inScope('qkv', () => {
        matrixBefore(graph, `${name}.qkv.query.weight`, width, attentionInit);
        return {
          k: dense(graph, `${name}.qkv.key`, normed, width, { init: keyInit }),
          v: dense(graph, `${name}.qkv.value`, normed, width, { init: identity(1) }),
        };
      }),
    finish(x, normed, attended) {
      let a = graph.border(attended);
      if (style.gate) a = inScope('gate', () => gate(graph, a, dense(graph, `${name}.gate`, normed, width, { init: zeros })));
      const joined = inScope('out', () => residual(graph, `${name}.out`, a, x, style.dropout, stream++, identity(1)));
      const h = inScope('norm2', () => normalise(graph, `${name}.norm2`, joined, style.norm));
      return inScope('ffn', () => {
        const hidden =
          style.ffn === 'gelu'
            ? dense(graph, `${name}.ffn.up`, h, 4 * width, { activation: 'gelu' })
            : swiglu(graph, dense(graph, `${name}.ffn.up`, h, 8 * width));
        return graph.border(residual(graph, `${name}.ffn.down`, hidden, joined, style.dropout, stream++));
      });
    },
  };
}

const identity = (scale: number): Init => ({ kind: 'identity-tiles', scale });

/** The query projection exists before its copy, whichever of the two is asked for first. */
function matrixBefore(graph: Graph, name: string, width: number, init: Init): void {
  graph.parameter(name, [width, width], { init, decay: true, sparse: false });
}

function residual(graph: Graph, name: string, x: Value, to: Value, rate: number, stream: number, init: Init = normalInit(widthOf(x))): Value {
  if (rate === 0) return dense(graph, name, x, widthOf(to), { residual: to, init });
  return add(graph, to, dropout(graph, dense(graph, name, x, widthOf(to), { init }), rate, stream));
}

/** A dropout stream number of its own for every block. */
function hashStream(name: string): number {
  let h = 7;
  for (const c of name) h = (Math.imul(h, 31) + c.codePointAt(0)!) & 0xffffff;
  return h * 16;
}
