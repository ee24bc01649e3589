/** Of the calls of a week, with a cache of one size. */
export interface WeekPoint {
  /** Full histories that fit into the cache, by user. */
  readonly share: number;
  readonly calls: number;
  readonly hit: number;
  readonly partial: number;
  readonly miss: number;
  /** Events computed, of those that a service without a cache would compute. */
  readonly computed: number;
  /** The same of the rows that the self layers ask with. */
  readonly rows: number;
}

export interface WeekCurve {
  readonly name: string;
  readonly points: readonly WeekPoint[];
}

const [width, height, left, top, gap] = [330, 200, 46, 44, 66];
const kinds = [['hit', '#1b7f5c'], ['partial', '#e0a92e'], ['miss', '#c9ccd3']] as const;
const works = [['computed', 'fill="none" stroke="#222" stroke-width="1.5" stroke-dasharray="4 3"'], ['rows', 'fill="none" stroke="#222" stroke-width="1.5"']] as const;
const text = (x: number, y: number, what: string, more = ''): string => `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${what}</text>`;

/** A panel a form, two a row: hits, partial hits and misses as areas over the size of the cache (log); the shares of events and rows that are computed as lines. */
export function weekPlot(curves: readonly WeekCurve[]): string {
  const rows = Math.ceil(curves.length / 2);
  const [w, h] = [2 * (width + gap) + left, rows * (height + gap) + top + 30];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${w} ${h}" width="${w}" height="${h}" font-family="sans-serif" font-size="11" fill="#222">
<title>A week of calls: hits, partial hits and misses by the size of the cache</title>
<rect width="${w}" height="${h}" fill="#fff"/>
${curves.map((curve, i) => panel(curve, left + (i % 2) * (width + gap), top + Math.floor(i / 2) * (height + gap))).join('\n')}
${legend(left, h - 12)}
</svg>
`;
}

function panel({ name, points }: WeekCurve, x0: number, y0: number): string {
  const [low, high] = [Math.log(points[0]!.share), Math.log(points.at(-1)!.share)];
  const x = (share: number): number => x0 + (width * (Math.log(share) - low)) / (high - low || 1);
  const y = (part: number): number => y0 + height * (1 - part);
  const at = (p: WeekPoint, part: number): string => `${x(p.share).toFixed(1)},${y(part).toFixed(1)}`;
  const below = points.map(() => 0);
  const areas = kinds.map(([kind, colour]) => {
    const base = points.map((p, i) => at(p, below[i]!));
    points.forEach((p, i) => { below[i]! += p[kind]; });
    return `<polygon fill="${colour}" points="${points.map((p, i) => at(p, below[i]!)).join(' ')} ${base.toReversed().join(' ')}"/>`;
  });
  const lines = works.map(([work, style]) => `<polyline ${style} points="${points.map((p) => at(p, p[work])).join(' ')}"/>`);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((part) => `<line x1="${x0}" x2="${x0 + width}" y1="${y(part)}" y2="${y(part)}" stroke="#000" stroke-opacity=".15"/>${text(x0 - 6, y(part) + 4, `${100 * part} %`, 'text-anchor="end"')}`);
  const sizes = points.map((p) => text(x(p.share), y0 + height + 15, `${Number((100 * p.share).toPrecision(2))} %`, 'text-anchor="middle"'));
  return [text(x0, y0 - 10, name, 'font-weight="bold"'), ...areas, ...ticks, ...sizes, ...lines, text(x0 + width / 2, y0 + height + 31, 'full histories that fit into the cache, of all users', 'text-anchor="middle" fill="#555"')].join('\n');
}

function legend(x: number, y: number): string {
  const names = { hit: 'hit: nothing computed', partial: 'partial: what is new', miss: 'miss: a prefill' };
  const boxes = kinds.map(([kind, colour], i) => `<rect x="${x + 165 * i}" y="${y - 10}" width="11" height="11" fill="${colour}"/>${text(x + 165 * i + 16, y, `${names[kind]}`)}`);
  const told = { computed: 'events computed', rows: 'rows computed' };
  const lines = works.map(([work, style], i) => `<polyline ${style} points="${x + 480 + 135 * i},${y - 4} ${x + 505 + 135 * i},${y - 4}"/>${text(x + 510 + 135 * i, y, told[work])}`);
  return [...boxes, ...lines].join('\n');
}
