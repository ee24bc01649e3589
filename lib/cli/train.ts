import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Command } from 'commander';
import { batches } from '../data/batches.ts';
import { Dataset } from '../data/reader.ts';
import { LongerError } from '../errors.ts';
import { loadCheckpoint } from '../model/checkpoint.ts';
import { historyForm } from '../model/config.ts';
import { ModelDescription } from '../model/model.ts';
import { Runtime } from '../native/runtime.ts';
import { countSteps, fit, type Position } from '../train/fit.ts';
import { MetricLog, Progress } from '../train/logs.ts';
import { TensorBoardLog } from '../train/tensorboard.ts';
import { Trainer } from '../train/trainer.ts';
import { readRunConfig } from './config_file.ts';
import { deviceOption, type Machine, machineOf, positiveNumber, print, readSchema, threadsOption, wholeNumber } from './files.ts';

interface Options extends Machine {
  readonly data: string;
  readonly schema: string;
  readonly out: string;
  readonly valid?: string;
  readonly keepBest?: boolean;
  readonly patience?: number;
  readonly config?: string;
  readonly model?: string;
  readonly epochs?: number;
  readonly saveEvery: number;
  readonly tensorboard?: string;
  readonly resume?: boolean;
  readonly skipBad?: boolean;
  readonly json?: boolean;
}

export function trainCommand(): Command {
  return new Command('train')
    .description('train a model on a request dataset; Ctrl-C saves and leaves')
    .requiredOption('--data <file>', 'training requests (.parquet, .arrow or .jsonl)')
    .requiredOption('--schema <file>', 'schema.json of the data')
    .requiredOption('--out <dir>', 'directory of checkpoints and metrics.jsonl')
    .option('--valid <file>', 'requests to evaluate on after every epoch')
    .option('--keep-best', 'keep the checkpoint of the best validation AUC (the mean of the tasks) in --out/best')
    .option('--patience <epochs>', 'stop after so many epochs without a better validation AUC', wholeNumber)
    .option('--model <name>', 'longer, transformer, base, sum-pooling, din or din-recent50')
    .option('--config <file>', 'JSON with "model" and "train" settings')
    .option('--epochs <n>', 'passes over the data (overrides the config)', positiveNumber)
    .addOption(threadsOption())
    .addOption(deviceOption())
    .option('--save-every <steps>', 'steps between checkpoints (0: only at the end of an epoch)', wholeNumber, 0)
    .option('--tensorboard <dir>', 'also write TensorBoard event files there')
    .option('--resume', 'go on from the newest checkpoint in --out')
    .option('--skip-bad', 'count bad rows and go on instead of stopping')
    .option('--json', 'print the summary as JSON')
    .action(train);
}

/** The epoch whose validation AUC, the mean of the tasks', is the best so far. */
interface Best {
  readonly epoch: number;
  readonly step: number;
  readonly auc: number;
}

async function train(options: Options): Promise<void> {
  if (options.valid === undefined && (options.keepBest || options.patience !== undefined))
    throw new LongerError('ERR_CONFIG', '--keep-best and --patience compare validation AUCs', { remedy: 'Name the validation requests with --valid' });
  const schema = await readSchema(options.schema);
  const run = await readRunConfig(options.config, options.model);
  const settings = options.epochs === undefined ? run.train : { ...run.train, epochs: options.epochs };
  const model = new ModelDescription(schema, run.model);
  const runtime = new Runtime(machineOf(options));
  const trainer = new Trainer(model, settings, runtime);
  await mkdir(options.out, { recursive: true });

  let position: Position = { epoch: 0, batch: 0 };
  let best: Best | null = null;
  if (options.resume) {
    const checkpoint = await loadCheckpoint(options.out);
    trainer.restore(checkpoint);
    position = { epoch: Number(checkpoint.progress['epoch']), batch: Number(checkpoint.progress['batch']) };
    best = (checkpoint.progress['best'] ?? null) as Best | null;
  }
  const data = new Dataset(options.data, schema, { skipBad: options.skipBad ?? false });
  if (trainer.totalSteps === 0) trainer.totalSteps = await countSteps(trainer, data);
  data.bad.length = 0;
  data.badCount = 0;

  const log = new MetricLog(join(options.out, 'metrics.jsonl'));
  const board = options.tensorboard === undefined ? null : new TensorBoardLog(options.tensorboard);
  const progress = new Progress({ label: run.model.kind, total: trainer.totalSteps, unit: 'steps', done: trainer.step });
  const abort = new AbortController();
  let interrupted = false;
  const onSignal = (): void => {
    if (interrupted) abort.abort(new LongerError('ERR_ABORTED', 'interrupted twice'));
    interrupted = true;
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  const save = (): Promise<string> => trainer.save(options.out, { ...position, best: best && { ...best } });
  class Leave extends Error {}
  class EnoughEpochs extends Error {}
  let last: { loss: number; valid?: object } = { loss: NaN };
  try {
    await fit(trainer, data, position, {
      signal: abort.signal,
      async onStep(report, at) {
        position = at;
        last = { ...last, loss: report.loss };
        log.write({ step: report.step, epoch: at.epoch, loss: report.loss, learningRate: report.learningRate, normDense: report.norm.dense, normSparse: report.norm.sparse, milliseconds: report.elapsed / 1000, requests: report.requests, events: report.events, candidates: report.candidates, skipped: report.skipped, skippedSteps: trainer.skippedSteps, ...(report.lossScale === null ? {} : { lossScale: report.lossScale }) });
        board?.scalars(report.step, { loss: report.loss, 'learning rate': report.learningRate, 'gradient norm/dense': report.norm.dense, 'gradient norm/sparse': report.norm.sparse, 'step/milliseconds': report.elapsed / 1000, ...(report.lossScale === null ? {} : { 'loss scale': report.lossScale, 'skipped steps': trainer.skippedSteps }) });
        progress.update(report.step, `loss ${report.loss.toFixed(4)}`);
        if (options.saveEvery > 0 && report.step % options.saveEvery === 0) await save();
        if (interrupted) throw new Leave();
      },
      async onEpoch(epoch) {
        position = { epoch: epoch + 1, batch: 0 };
        if (options.valid === undefined) {
          await save();
          return;
        }
        const valid = new Dataset(options.valid, schema, { skipBad: options.skipBad ?? false });
        const sets = await trainer.evaluateTasks(batches(schema, valid, { ...settings.batch, ...historyForm(run.model) }));
        const tasks = [...sets].map(([task, set]) => [task, set.result().values] as const);
        log.write({ step: trainer.step, epoch, valid: Object.fromEntries(tasks) });
        board?.scalars(trainer.step, Object.fromEntries(tasks.flatMap(([task, values]) => Object.entries(values).map(([name, v]) => [`valid/${task}/${name}`, v ?? NaN]))));
        last = { ...last, valid: Object.fromEntries(tasks) };
        progress.update(trainer.step, `valid ${tasks.map(([task, { auc: a, gauc }]) => `${task} auc ${a?.toFixed(4)} gauc ${gauc?.toFixed(4)}`).join(', ')}`);
        const auc = meanAuc(tasks.map(([, values]) => values.auc ?? NaN));
        const better = best === null || auc > best.auc || Number.isNaN(best.auc); // of one class there is none
        if (better) best = { epoch, step: trainer.step, auc };
        await save();
        if (better && options.keepBest) await trainer.save(join(options.out, 'best'), { ...position, best: { ...best! } }, 1);
        if (options.patience !== undefined && epoch - best!.epoch >= options.patience) throw new EnoughEpochs();
      },
    });
    progress.stop('done');
  } catch (error) {
    if (error instanceof EnoughEpochs) progress.stop(`no better validation AUC for ${options.patience} epochs`);
    else if (error instanceof Leave) {
      progress.stop(`interrupted: saved ${await save()}; go on with --resume`);
      process.exitCode = 1;
    } else throw error;
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
    log.close();
    board?.close();
    trainer.dispose();
    runtime.dispose();
  }
  const summary = { steps: position, ...last, best, parameters: model.layout.count(), out: options.out, badRows: data.badCount, firstBad: data.bad.slice(0, 10) };
  print(options.json, summary, () => `${run.model.kind}: ${model.layout.count()} parameters, last loss ${last.loss.toFixed(4)}, saved in ${options.out}${bestLine(best, options, schema.tasks.length)}${data.badCount > 0 ? `\n${data.badCount} bad rows were left out; the first: ${data.bad[0]}` : ''}`);
}

/** Over the tasks that have one: those with both kinds of label. */
function meanAuc(all: readonly number[]): number {
  const defined = all.filter((auc) => !Number.isNaN(auc));
  return defined.reduce((a, b) => a + b, 0) / defined.length;
}

function bestLine(best: Best | null, options: Options, tasks: number): string {
  if (best === null) return '';
  return `\nbest validation AUC ${best.auc.toFixed(4)}${tasks > 1 ? ` (the mean of ${tasks} tasks)` : ''} after epoch ${best.epoch + 1}${options.keepBest ? `, kept in ${join(options.out, 'best')}` : ''}`;
}
