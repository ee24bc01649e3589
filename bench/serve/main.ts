/** `npm run bench:serve -- [--model DIR] [--json FILE]`: see docs/serving.md. Needs `npm run build:ts`, and is compiled as that is: tsx makes functions slower. */
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { machine } from '../machine.ts';
import { textTable } from '../print.ts';
import { passes, type BenchRecord } from '../record.ts';
import { httpFigures } from './http.ts';
import { cacheBytes, cacheTable, overhead } from './ranker.ts';
import { openSubject } from './subject.ts';

const { values: options } = parseArgs({
  options: {
    model: { type: 'string' }, preset: { type: 'string', default: 'P' }, threads: { type: 'string', default: String(availableParallelism()) },
    seconds: { type: 'string', default: '10' }, steady: { type: 'string' }, only: { type: 'string', default: 'bytes|cache|rank|http' }, users: { type: 'string', default: '64' },
    candidates: { type: 'string', default: '100' }, visit: { type: 'string', default: '4' }, 'cache-mb': { type: 'string', default: '256' }, json: { type: 'string' }, help: { type: 'boolean' },
  },
});

if (options.help) {
  console.log(`npm run bench:serve -- [options]
  --preset P        size of a made model (S, M, P, X), or --model DIR, one of yours
  --threads N       of the ranker                       --seconds S    of each load and race (default 10)
  --steady S        of the load at 70 % of capacity, for which the bar asks 600 (default: --seconds)
  --only PATTERN    of bytes, cache, rank, http         --json FILE    writes the figures
  --users N --candidates N --visit N --cache-mb N       what the load is: users with stored histories, candidates a call, calls of a user at one time`);
} else {
  const seconds = Number(options.seconds);
  using subject = await openSubject({ preset: options.preset, threads: Number(options.threads), ...(options.model === undefined ? {} : { model: options.model }) });
  const http = { seconds, steady: Number(options.steady ?? seconds), users: Number(options.users), candidates: Number(options.candidates), visit: Number(options.visit), cacheMb: Number(options['cache-mb']) };
  const all = { bytes: () => cacheBytes(subject), cache: () => cacheTable(subject, seconds), rank: () => overhead(subject, seconds), http: () => httpFigures(subject, http) };
  const pattern = new RegExp(`^(${options.only})$`);
  const records: BenchRecord[] = [];
  for (const [name, run] of Object.entries(all))
    if (pattern.test(name))
      for await (const record of run()) {
        records.push(record);
        process.stderr.write(`${textTable([record]).split('\n')[1]}${record.note === undefined ? '' : `  (${record.note})`}\n`);
      }
  const verdicts = records.map(passes).filter((v) => v !== null);
  console.log(`\n${textTable(records)}\n\n${verdicts.filter(Boolean).length} of ${verdicts.length} bars met`);
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ machine: machine(), options, records }, null, 1)}\n`);
}
