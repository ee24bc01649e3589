import { table } from '../lib/cli/files.ts';
import { passes, type BenchRecord } from './record.ts';

const number = (x: number): string => (!Number.isFinite(x) ? '-' : Math.abs(x) >= 1000 ? Math.round(x).toLocaleString('en') : Number(x.toPrecision(3)).toString());

function cells(r: BenchRecord): string[] {
  const ok = passes(r);
  return [
    `${r.bench}: ${r.name}`, r.config, String(r.threads), r.precision, r.missing === undefined ? `${number(r.value)} ${r.unit}` : r.missing,
    r.against ? `${r.against.name} ${number(r.against.value)}` : '', r.ratio === undefined ? '' : r.ratio.toFixed(2),
    r.bar ? `${r.bar.is} ${r.bar.value}` : '', ok === null ? '' : ok ? 'pass' : 'FAIL',
  ];
}

const header = ['figure', 'config', 'threads', 'precision', 'value', 'against', 'ratio', 'bar', ''];

export function textTable(records: readonly BenchRecord[]): string {
  return table([header, ...records.map(cells)]);
}

export function markdownTable(records: readonly BenchRecord[]): string {
  const row = (c: readonly string[]): string => `| ${c.join(' | ')} |`;
  return [row([...header, 'note']), row(header.map(() => '---').concat('---')), ...records.map((r) => row([...cells(r), r.note ?? '']))].join('\n');
}
