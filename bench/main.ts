/** `npm run bench -- [--only PATTERN] [--quick] [--json FILE]`: see docs/benchmarks.md. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { benches } from './benches.ts';
import type { Context } from './context.ts';
import { machine } from './machine.ts';
import { buildNative } from './native.ts';
import { markdownTable, textTable } from './print.ts';
import { merged, passes, type BenchRecord } from './record.ts';

const { values: options } = parseArgs({
  options: {
    only: { type: 'string' }, json: { type: 'string' }, append: { type: 'boolean' }, quick: { type: 'boolean' }, seconds: { type: 'string' },
    presets: { type: 'string' }, threads: { type: 'string' }, list: { type: 'boolean' }, build: { type: 'boolean' }, markdown: { type: 'string' }, help: { type: 'boolean' },
  },
});

interface Report {
  readonly machine: ReturnType<typeof machine>;
  readonly records: readonly BenchRecord[];
}
const readReport = (path: string): Report => JSON.parse(readFileSync(path, 'utf8')) as Report;

if (options.help) {
  console.log(`npm run bench -- [options]
  --only PATTERN   benchmarks whose name matches (regular expression)     --list      their names
  --quick          fewer shapes, shorter races                            --seconds S of one race (default 4, quick 1.5)
  --presets S,M,P,X  --threads 1,2                                        --build     only build the native programs
  --json FILE      writes the figures; --append keeps FILE's other figures
  --markdown FILE  prints FILE's figures as a Markdown table`);
} else if (options.list) {
  for (const b of benches) console.log(`${b.name.padEnd(18)} ${b.about}`);
} else if (options.build) buildNative();
else if (options.markdown !== undefined) {
  console.log(markdownTable(readReport(options.markdown).records));
} else {
  const quick = options.quick ?? false;
  const context: Context = {
    quick,
    seconds: Number(options.seconds ?? (quick ? 1.5 : 4)),
    presets: (options.presets ?? (quick ? 'S,P' : 'S,M,P,X')).split(','),
    threads: (options.threads ?? (availableParallelism() > 1 ? '1,2' : '1')).split(',').map(Number),
  };
  const pattern = new RegExp(options.only ?? '.');
  const records: BenchRecord[] = [];
  for (const bench of benches.filter((b) => pattern.test(b.name))) {
    const from = performance.now();
    for await (const record of bench.run(context)) {
      records.push(record);
      process.stderr.write(`${textTable([record]).split('\n')[1]}\n`);
    }
    process.stderr.write(`-- ${bench.name}: ${((performance.now() - from) / 1000).toFixed(1)} s\n`);
    if (options.json !== undefined) {
      const before = options.append && existsSync(options.json) ? readReport(options.json).records : [];
      writeFileSync(options.json, `${JSON.stringify({ machine: machine(), records: merged(before, records) } satisfies Report, null, 1)}\n`);
    }
  }
  const verdicts = records.map(passes).filter((v) => v !== null);
  console.log(`\n${textTable(records)}\n\n${verdicts.filter(Boolean).length} of ${verdicts.length} bars met`);
}
