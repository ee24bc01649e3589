import type { Command } from 'commander';
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

/** The subcommands of `longer`, in the order of its help. */
export const commands: readonly (() => Command)[] = [
  demoCommand, prepareCommand, trainCommand, evaluateCommand, scoreCommand, serveCommand, inspectCommand, verifyCommand, profileCommand, benchCommand, doctorCommand,
];
