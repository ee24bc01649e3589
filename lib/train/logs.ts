import { closeSync, fsyncSync, openSync, writeSync } from 'node:fs';
import cliProgress from 'cli-progress';

/** A JSONL file of metrics: one object a line, each with `time` (ISO, UTC). Appends, so that a resumed run continues its file. */
export class MetricLog {
  #file: number | null;

  constructor(path: string) {
    this.#file = openSync(path, 'a');
  }

  /** Writes one line. NaN and infinities, which JSON lacks, are written as the strings "NaN", "Infinity", "-Infinity". */
  write(record: Readonly<Record<string, unknown>>): void {
    if (this.#file === null) return;
    const line = JSON.stringify({ time: new Date().toISOString(), ...record }, (_, value: unknown) =>
      typeof value === 'number' && !Number.isFinite(value) ? String(value) : value);
    writeSync(this.#file, `${line}\n`);
  }

  /** Syncs and closes the file; later writes do nothing. */
  close(): void {
    if (this.#file === null) return;
    fsyncSync(this.#file);
    closeSync(this.#file);
    this.#file = null;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

export interface ProgressOptions {
  readonly label: string;
  /** Units of the whole, or null where it is not known. */
  readonly total: number | null;
  /** Name of a unit in the plural, e.g. `steps`. */
  readonly unit: string;
  /** Units already done, e.g. by the run that is resumed. Default 0. */
  readonly done?: number;
  /** Where it is shown; default stderr. A bar on a terminal, plain lines elsewhere. */
  readonly stream?: NodeJS.WritableStream & { readonly isTTY?: boolean };
  /** Seconds between plain lines; default 10. */
  readonly every?: number;
}

/** Shows how far a long job is, its rate over the last half minute or so, and the time left. */
export class Progress {
  readonly #options: ProgressOptions;
  readonly #stream: NonNullable<ProgressOptions['stream']>;
  readonly #bar: cliProgress.SingleBar | null;
  readonly #rate = new RateMeter();
  #done: number;
  #lastLine = -Infinity;

  constructor(options: ProgressOptions) {
    this.#options = options;
    this.#stream = options.stream ?? process.stderr;
    this.#done = options.done ?? 0;
    this.#rate.mark(this.#done, performance.now() / 1000);
    this.#bar = this.#stream.isTTY === true && options.total !== null
      ? new cliProgress.SingleBar({
        format: '{label} {bar} {percentage}% {value}/{total} {unit} {rate} left {left} {note}', stream: this.#stream, hideCursor: true, fps: 5,
      }, cliProgress.Presets.shades_classic)
      : null;
    this.#bar?.start(options.total!, this.#done, this.#payload(''));
  }

  /** @param done units done in all. @param note short text beside it, e.g. the loss. */
  update(done: number, note = ''): void {
    const now = performance.now() / 1000;
    this.#done = done;
    this.#rate.mark(done, now);
    if (this.#bar !== null) this.#bar.update(done, this.#payload(note));
    else if (now - this.#lastLine >= (this.#options.every ?? 10)) this.#line(note, now);
  }

  /** Leaves the last state on the screen. */
  stop(note = ''): void {
    if (this.#bar !== null) {
      this.#bar.update(this.#done, this.#payload(note));
      this.#bar.stop();
    } else this.#line(note, performance.now() / 1000);
  }

  #payload(note: string) {
    const { label, unit, total } = this.#options;
    const rate = this.#rate.perSecond;
    return {
      label, unit, note,
      rate: rate === null ? '-/s' : `${rate >= 100 ? rate.toFixed(0) : rate.toPrecision(3)}/s`,
      left: rate === null || total === null ? '-' : formatSeconds((total - this.#done) / rate),
    };
  }

  #line(note: string, now: number): void {
    const { total } = this.#options;
    const p = this.#payload(note);
    const share = total === null ? '' : `/${total} (${((100 * this.#done) / Math.max(1, total)).toFixed(1)} %)`;
    this.#stream.write(`${p.label} ${this.#done}${share} ${p.unit}, ${p.rate}, left ${p.left}${note === '' ? '' : `, ${note}`}\n`);
    this.#lastLine = now;
  }
}

/** Units a second over a sliding window. */
export class RateMeter {
  readonly #marks: (readonly [number, number])[] = [];

  /** @param done units so far. @param seconds a monotonic clock. At most four marks a second are kept. */
  mark(done: number, seconds: number): void {
    const marks = this.#marks;
    if (marks.length > 1 && seconds - marks[marks.length - 2]![1] < 0.25) marks.pop();
    marks.push([done, seconds]);
    while (marks.length > 2 && seconds - marks[0]![1] > 30) marks.shift();
  }

  /** null before two marks lie apart. */
  get perSecond(): number | null {
    const first = this.#marks[0];
    const last = this.#marks[this.#marks.length - 1];
    if (first === undefined || last === undefined || last[1] <= first[1] || last[0] <= first[0]) return null;
    return (last[0] - first[0]) / (last[1] - first[1]);
  }
}

/** 75 as `1m15s`; a dash for what is not finite. */
export function formatSeconds(seconds: number): string {
  if (!Number.isFinite(seconds)) return '-';
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m${String(s % 60).padStart(2, '0')}s`;
  return `${Math.floor(s / 3600)}h${String(Math.floor((s % 3600) / 60)).padStart(2, '0')}m`;
}
