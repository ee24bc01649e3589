import { createWriteStream } from 'node:fs';
import { once } from 'node:events';
import { Command } from 'commander';
import { Dataset } from '../data/reader.ts';
import type { EncodedRequest } from '../schema/encode.ts';
import { Ranker } from '../rank/ranker.ts';
import { sigmoid } from '../train/trainer.ts';
import { wholeNumber } from './files.ts';

interface Options {
  readonly model: string;
  readonly requests: string;
  readonly out: string;
  readonly threads?: number;
  readonly batch: number;
}

export function scoreCommand(): Command {
  return new Command('score')
    .description('score the candidates of requests: one line in, one line out, the same order')
    .requiredOption('--model <dir>', 'checkpoint directory')
    .requiredOption('--requests <file>', 'requests (.jsonl, .parquet or .arrow)')
    .requiredOption('--out <file>', 'JSON lines: id, and per task logits and probabilities of every candidate')
    .option('--threads <n>', 'threads (default: all CPUs)', wholeNumber)
    .option('--batch <n>', 'requests scored together', wholeNumber, 32)
    .action(async (options: Options) => {
      using ranker = await Ranker.open(options.model, options.threads === undefined ? {} : { threads: options.threads });
      const out = createWriteStream(options.out);
      let held: EncodedRequest[] = [];
      const flush = async (): Promise<void> => {
        if (held.length === 0) return;
        const logits = await ranker.score(await ranker.prefill(held));
        const tasks = ranker.model.schema.tasks;
        let c = 0;
        for (const request of held) {
          const result = Object.fromEntries(
            tasks.map((task, t) => {
              const mine = Array.from({ length: request.candidates }, (_, i) => logits[(c + i) * tasks.length + t]!);
              return [task.name, { logits: mine, probabilities: mine.map(sigmoid) }];
            }),
          );
          c += request.candidates;
          if (!out.write(`${JSON.stringify({ id: request.id ?? null, ...result })}\n`)) await once(out, 'drain');
        }
        held = [];
      };
      for await (const request of new Dataset(options.requests, ranker.model.schema)) {
        held.push(request);
        if (held.length >= Math.max(1, options.batch)) await flush();
      }
      await flush();
      out.end();
      await once(out, 'close');
    });
}
