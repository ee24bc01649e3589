import { createWriteStream } from 'node:fs';
import { once } from 'node:events';
import { Command } from 'commander';
import { LongerError } from '../errors.ts';
import { Catalog } from '../data/catalog.ts';
import { Dataset } from '../data/reader.ts';
import type { EncodedRequest } from '../schema/encode.ts';
import { Ranker } from '../rank/ranker.ts';
import { sigmoid } from '../train/metrics.ts';
import { type Computed, deviceOption, type Machine, machineOf, precisionOf, precisionOption, print, threadsOption, wholeNumber } from './files.ts';

interface Options extends Machine, Computed {
  readonly model: string;
  readonly requests: string;
  readonly out: string;
  readonly batch: number;
  readonly catalog?: string;
  readonly skipBad?: boolean;
  readonly json?: boolean;
}

export function scoreCommand(): Command {
  return new Command('score')
    .description('score the candidates of requests: one line in, one line out, the same order')
    .requiredOption('--model <dir>', 'checkpoint directory')
    .requiredOption('--requests <file>', 'requests (.jsonl, .parquet or .arrow)')
    .requiredOption('--out <file>', 'JSON lines: id, and per task logits and probabilities of every candidate')
    .addOption(threadsOption())
    .addOption(deviceOption())
    .addOption(precisionOption())
    .option('--batch <n>', 'requests scored together', wholeNumber, 32)
    .option('--catalog <dir>', "what 'longer prepare' made: the requests have the ids, columns and values of its log")
    .option('--skip-bad', 'write an "error" line for a bad request instead of stopping')
    .option('--json', 'print a summary as JSON')
    .action(async (options: Options) => {
      using ranker = await Ranker.open(options.model, { ...machineOf(options), ...precisionOf(options) });
      const catalog = options.catalog === undefined ? {} : { catalog: await Catalog.open(options.catalog) };
      const data = new Dataset(options.requests, ranker.model.schema, { skipBad: options.skipBad ?? false, ...catalog });
      const out = createWriteStream(options.out);
      let held: (EncodedRequest | LongerError)[] = [];
      const sum = { requests: 0, candidates: 0 };
      const flush = async (): Promise<void> => {
        if (held.length === 0) return;
        const good = held.filter((r): r is EncodedRequest => !(r instanceof LongerError));
        const logits = good.length === 0 ? new Float32Array(0) : await ranker.score(await ranker.prefill(good));
        const tasks = ranker.model.schema.tasks;
        let c = 0;
        for (const request of held) {
          if (request instanceof LongerError) {
            if (!out.write(`${JSON.stringify({ id: null, error: request.message })}\n`)) await once(out, 'drain');
            continue;
          }
          const result = Object.fromEntries(
            tasks.map((task, t) => {
              const mine = Array.from({ length: request.candidates }, (_, i) => logits[(c + i) * tasks.length + t]!);
              return [task.name, { logits: mine, probabilities: mine.map(sigmoid) }];
            }),
          );
          c += request.candidates;
          sum.requests++;
          sum.candidates += request.candidates;
          if (!out.write(`${JSON.stringify({ id: request.id ?? null, ...result })}\n`)) await once(out, 'drain');
        }
        held = [];
      };
      for await (const request of data.rows()) {
        held.push(request);
        if (held.length >= Math.max(1, options.batch)) await flush();
      }
      await flush();
      out.end();
      await once(out, 'close');
      const summary = { ...sum, badRows: data.badCount, firstBad: data.bad.slice(0, 10), out: options.out };
      print(options.json, summary, () => `${sum.candidates} candidates of ${sum.requests} requests scored in ${options.out}${data.badCount > 0 ? `; ${data.badCount} bad rows, the first: ${data.bad[0]}` : ''}`);
    });
}
