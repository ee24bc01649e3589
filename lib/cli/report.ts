import type { MetricResult } from '../train/metric_set.ts';
import type { TrainOptions } from '../train/options.ts';
import type { OpTime } from './profile.ts';

/** What the demo measures of one model. */
export interface DemoResult {
  readonly name: string;
  readonly training: TrainOptions;
  readonly parameters: number;
  readonly metrics: MetricResult;
  /** AUC over test requests by history length: upper bound of the bucket, AUC. */
  readonly byLength: readonly (readonly [number, number])[];
  readonly curve: readonly (readonly [step: number, loss: number])[];
  readonly trainSeconds: number;
  readonly stepMilliseconds: number;
  readonly cachedPerSecond: number;
  readonly uncachedPerSecond: number;
}

export interface DemoReport {
  readonly world: { readonly items: number; readonly users: number; readonly historyLength: number; readonly train: number; readonly test: number; readonly candidates: number };
  readonly best: number;
  readonly seed: number;
  readonly results: readonly DemoResult[];
  readonly ops: readonly OpTime[];
  readonly graph: string;
  readonly isa: string;
  readonly threads: number;
}

/** Distinct to colour-blind eyes too (after Okabe and Ito), readable on white and on near-black. */
const colours = ['#8a8a8a', '#e69f00', '#009e73', '#56a4e9', '#c06fb0', '#e04f1a'];

const escape = (s: string): string => s.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!);

interface Series {
  readonly name: string;
  readonly points: readonly (readonly [number, number])[];
}

function plot(title: string, xLabel: string, yLabel: string, series: readonly Series[], line?: { readonly at: number; readonly label: string }): string {
  const [w, h, left, right, top, bottom] = [860, 340, 60, 140, 30, 42];
  const all = series.flatMap((s) => s.points.filter(([, y]) => Number.isFinite(y)));
  const xs = all.map(([x]) => x);
  const ys = [...all.map(([, y]) => y), ...(line ? [line.at] : [])];
  const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
  const pad = (Math.max(...ys) - Math.min(...ys)) * 0.06 || 0.01;
  const [y0, y1] = [Math.min(...ys) - pad, Math.max(...ys) + pad];
  const X = (x: number): number => left + ((x - x0) / (x1 - x0 || 1)) * (w - left - right);
  const Y = (y: number): number => h - bottom - ((y - y0) / (y1 - y0)) * (h - top - bottom);
  const ticks = (a: number, b: number): number[] => Array.from({ length: 5 }, (_, i) => a + ((b - a) * i) / 4);
  const parts = [
    ...ticks(y0, y1).map((y) => `<line x1="${left}" x2="${w - right}" y1="${Y(y)}" y2="${Y(y)}" class="grid"/><text x="${left - 6}" y="${Y(y) + 4}" text-anchor="end">${y.toFixed(3)}</text>`),
    ...ticks(x0, x1).map((x) => `<text x="${X(x)}" y="${h - bottom + 16}" text-anchor="middle">${Math.round(x)}</text>`),
    ...(line ? [`<line x1="${left}" x2="${w - right}" y1="${Y(line.at)}" y2="${Y(line.at)}" class="limit"/><text x="${left + 6}" y="${Y(line.at) - 5}">${escape(line.label)}</text>`] : []),
    ...series.map((s, i) => {
      const path = s.points.filter(([, y]) => Number.isFinite(y)).map(([x, y]) => `${X(x).toFixed(1)},${Y(y).toFixed(1)}`).join(' ');
      return `<polyline fill="none" stroke="${colours[i % colours.length]}" stroke-width="1.8" points="${path}"/><rect x="${w - right + 8}" y="${top + 18 + i * 18}" width="12" height="3" fill="${colours[i % colours.length]}"/><text x="${w - right + 26}" y="${top + 24 + i * 18}">${escape(s.name)}</text>`;
    }),
    `<text x="${(left + w - right) / 2}" y="${h - 6}" text-anchor="middle">${escape(xLabel)}</text>`,
    `<text x="14" y="${h / 2}" text-anchor="middle" transform="rotate(-90 14 ${h / 2})">${escape(yLabel)}</text>`,
    `<text x="${left}" y="18" class="title">${escape(title)}</text>`,
  ];
  return `<svg viewBox="0 0 ${w} ${h}" role="img" aria-label="${escape(title)}">${parts.join('')}</svg>`;
}

/** Mean over windows, so that a curve of single batches can be read. */
function smooth(points: readonly (readonly [number, number])[], count = 40): [number, number][] {
  const size = Math.max(1, Math.ceil(points.length / count));
  const out: [number, number][] = [];
  for (let i = 0; i < points.length; i += size) {
    const part = points.slice(i, i + size);
    out.push([part.at(-1)![0], part.reduce((s, [, y]) => s + y, 0) / part.length]);
  }
  return out;
}

/** One HTML file without references: tables and plots as inline SVG. */
export function reportHtml(r: DemoReport): string {
  const cell = (s: string, tag = 'td'): string => `<${tag}>${escape(s)}</${tag}>`;
  const row = (cells: readonly string[], tag = 'td'): string => `<tr>${cells.map((c) => cell(c, tag)).join('')}</tr>`;
  const number = (x: number): string => Math.round(x).toLocaleString('en');
  const interval = (i: readonly [number, number] | undefined): string => (i ? `${i[0].toFixed(3)}–${i[1].toFixed(3)}` : '');
  const table = [
    row(['model', 'AUC', '95 % over users', 'GAUC', 'LogLoss', 'NE', 'rates', 'average', 'parameters', 'step, ms', 'training, s', 'candidates/s cached', 'uncached'], 'th'),
    ...r.results.map((m) => row([
      m.name, m.metrics.values.auc!.toFixed(4), interval(m.metrics.intervals.auc), m.metrics.values.gauc!.toFixed(4), m.metrics.values.logLoss!.toFixed(4), m.metrics.values.ne!.toFixed(4),
      `${m.training.dense.learningRate} / ${m.training.sparse.learningRate}`, m.training.ema > 0 ? String(m.training.ema) : 'no', number(m.parameters), m.stepMilliseconds.toFixed(1), m.trainSeconds.toFixed(1), number(m.cachedPerSecond), number(m.uncachedPerSecond),
    ])),
  ].join('');
  const of = (m: { readonly metrics: { readonly values: { readonly auc?: number | null } } }): number => m.metrics.values.auc ?? 0;
  const first = r.results.reduce((a, b) => (of(b) > of(a) ? b : a));
  const longer = r.results.find((m) => m.name === 'LONGER')!;
  const verdict = `In this run ${first.name} came nearest: ${of(first).toFixed(4)} of ${r.best.toFixed(4)}.${first === longer ? '' : ` LONGER reached ${of(longer).toFixed(4)} in the same number of epochs; its training loss below tells the two reasons apart: still near where it began, or low while the test is not (overfitting).`}`;
  const { training } = longer;
  const ops = [row(['operation', 'calls', 'ms', 'share'], 'th'), ...r.ops.slice(0, 20).map((o) => row([o.op, String(o.calls), o.milliseconds.toFixed(2), `${(100 * o.share).toFixed(1)} %`]))].join('');
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>longer-rec demo</title>
<style>
:root{color-scheme:light dark;--text:#1c1c1c;--page:#fff;--line:#ddd;--code:#f5f5f5}
@media (prefers-color-scheme:dark){:root{--text:#e4e4e4;--page:#161616;--line:#3a3a3a;--code:#222}}
body{font:15px/1.55 system-ui,sans-serif;max-width:1180px;margin:2em auto;padding:0 1em;color:var(--text);background:var(--page)}
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}p{max-width:68em}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.92em;font-variant-numeric:tabular-nums}
td,th{padding:.3em .55em;border-bottom:1px solid var(--line);text-align:right;vertical-align:bottom}td{white-space:nowrap}td:first-child,th:first-child{text-align:left}
svg{font:12px system-ui,sans-serif;display:block;margin:1em 0;width:100%;max-width:900px;height:auto}svg text{fill:var(--text)}
.grid{stroke:var(--line)}.limit{stroke:var(--text);stroke-dasharray:5 4}.title{font-size:13px;font-weight:600}
pre{background:var(--code);padding:1em;overflow:auto;font-size:12px;max-height:30em}
</style>
<h1>longer-rec demo</h1>
<p>A made world with known click probabilities: ${number(r.world.items)} items, ${number(r.world.users)} users, histories of up to ${r.world.historyLength} events,
${number(r.world.train)} training and ${number(r.world.test)} test requests of ${r.world.candidates} candidates. The true probabilities reach an AUC of <b>${r.best.toFixed(4)}</b>: no model can do better but by chance.
Kernels for ${escape(r.isa)}, ${r.threads} threads.</p>
<h2>Models</h2><div class="wide"><table>${table}</table></div>
<p><b>${escape(verdict)}</b></p>
<p>All models share features (item, category, action, time gap, recency), head, optimizer, schedule, seed and batches; they differ in what they do with the history. Each has its own learning rates (dense parameters between 5e-4 and 8e-3 /
tables .05 or .1) and is judged by its last parameters or by their moving average, as did best on the world of another seed; DIN's were steadier over seeds than another choice that was .001 better there.
Event tokens are 16 wide, and 32 in Transformer and LONGER. Attention learns to match the candidate with the history late in a run
this short, so both start with projections that are multiples of the identity, and their candidate is encoded by the history's own token MLP; DIN's candidate uses the same MLP,
and its tokens are normalised. Settings: ${training.epochs} epochs, batches of ${training.batch.maxRequests} requests, AdamW, row-wise Adagrad, warm-up ${training.schedule.warmup} steps, cosine decay, seed ${r.seed}; in Transformer and LONGER, layers with more than ${training.dense.fanInBase} inputs learn slower in proportion.
Differences below .005 on one seed mean nothing. "Cached" scores 200 candidates of one user against the prefilled cache; "uncached" computes the history again for each candidate.</p>
<h2>Training</h2>${plot('Training loss (means over windows)', 'step', 'binary cross-entropy', r.results.map((m) => ({ name: m.name, points: smooth(m.curve) })))}
<h2>AUC by history length</h2>${plot('Test AUC by history length', 'events of the history, up to', 'AUC', r.results.map((m) => ({ name: m.name, points: m.byLength })), { at: r.best, label: 'best possible' })}
<h2>Where a LONGER training step spends its time</h2><table>${ops}</table>
<h2>The scoring graph of LONGER</h2><pre>${escape(r.graph)}</pre>
</html>
`;
}
