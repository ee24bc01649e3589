#!/usr/bin/env node
import { createRequire } from 'node:module';
import { Command, CommanderError } from 'commander';
import { LongerError } from '../errors.ts';
import { benchCommand } from './bench.ts';
import { demoCommand } from './demo.ts';
import { doctorCommand } from './doctor.ts';
import { evaluateCommand } from './evaluate.ts';
import { inspectCommand } from './inspect.ts';
import { prepareCommand } from './prepare.ts';
import { profileCommand } from './profile.ts';
import { scoreCommand } from './score.ts';
import { serveCommand } from './serve.ts';
import { trainCommand } from './train.ts';
import { verifyCommand } from './verify.ts';

const { version } = createRequire(import.meta.url)('#package') as { version: string };

const program = new Command('longer')
  .description('LONGER: train and serve a ranking transformer over ultra-long user histories.')
  .version(version)
  .showSuggestionAfterError()
  .exitOverride();
for (const command of [demoCommand, prepareCommand, trainCommand, evaluateCommand, scoreCommand, serveCommand, inspectCommand, verifyCommand, profileCommand, benchCommand, doctorCommand])
  program.addCommand(command().exitOverride());

/** Exit codes: 0 fine, 1 failed, 2 usage. */
try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else {
    if (error instanceof LongerError) process.stderr.write(`longer: ${error.message} [${error.code}]\n`);
    else process.stderr.write(`longer: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exitCode = error instanceof LongerError && error.code === 'ERR_CONFIG' ? 2 : 1;
  }
}
