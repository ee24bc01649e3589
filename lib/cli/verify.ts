import { Command } from 'commander';
import { worldDefaults, worldSchema } from '../data/world.ts';
import { ModelDescription } from '../model/model.ts';
import { trainDefaults } from '../train/options.ts';
import { presetNamed } from './config_file.ts';
import { type Computed, deviceOption, type Machine, precisionOf, precisionOption, print, table, wholeNumber } from './files.ts';
import { isPreset, loadSaved } from './named_model.ts';
import { proofsOf } from './verify/proofs.ts';
import { makeSubject, requestsFor, type SubjectSource } from './verify/subject.ts';

interface Options extends Pick<Machine, 'device'>, Computed {
  readonly model: string;
  readonly data?: string;
  readonly requests: number;
  readonly json?: boolean;
}

export function verifyCommand(): Command {
  return new Command('verify')
    .description('prove each mechanism of the paper on a model, in the precision that it was trained in')
    .option('--model <dir or name>', 'checkpoint directory or preset name', 'longer')
    .option('--data <file>', 'requests to prove it on (.parquet, .arrow or .jsonl; default: random ones that fit the schema)')
    .option('--requests <n>', 'requests used', wholeNumber, 10)
    .addOption(deviceOption())
    .addOption(precisionOption())
    .option('--json', 'as JSON')
    .action(async (o: Options) => {
      const described = await describe(o.model);
      const source = { ...described, train: { ...described.train, ...precisionOf(o) } };
      using subject = makeSubject({ ...source, device: o.device, requests: await requestsFor(source.model, o.data, o.requests) });
      const proofs = await proofsOf(subject);
      const pass = proofs.every((p) => p.pass);
      const { config } = subject.model;
      print(o.json, { model: config.kind, checkpoint: source.checkpoint?.directory ?? null, precision: subject.precision, device: subject.device, requests: subject.requests.length, pass, proofs }, () =>
        table(proofs.map((p) => [p.pass ? 'pass' : 'FAIL', p.mechanism, p.claim, p.measured]), ['left', 'left', 'left', 'left']));
      if (!pass) process.exitCode = 1;
    });
}

async function describe(name: string): Promise<Omit<SubjectSource, 'requests'>> {
  if (isPreset(name)) return { model: new ModelDescription(worldSchema(worldDefaults), presetNamed(name)), train: trainDefaults };
  const { checkpoint, schema, config, train } = await loadSaved(name, { optimizer: true });
  return { model: new ModelDescription(schema, config), checkpoint, train };
}
