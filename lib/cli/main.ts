#!/usr/bin/env node
import { createRequire } from 'node:module';
import { Command, CommanderError } from 'commander';
import { LongerError } from '../errors.ts';
import { commands } from './commands.ts';

const { version } = createRequire(import.meta.url)('#package') as { version: string };

const program = new Command('longer')
  .description('LONGER: train and serve a ranking transformer over ultra-long user histories.')
  .version(version)
  .showSuggestionAfterError()
  .exitOverride();
for (const command of commands) program.addCommand(command().exitOverride());

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
