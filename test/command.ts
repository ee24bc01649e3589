import { spawnSync, type SpawnSyncReturns } from 'node:child_process';
import { join } from 'node:path';
import type { Command } from 'commander';
import t from 'tap';

export const root = join(import.meta.dirname, '..');
/** Without tap's own loader. */
export const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => name !== 'NODE_OPTIONS'));
/** Arguments of Node that run the sources of `longer`. */
export const args = (...command: string[]): string[] => ['--import', 'tsx', join(root, 'lib', 'cli', 'main.ts'), ...command];
export const longerIn = (more: Readonly<Record<string, string>>, ...command: string[]): SpawnSyncReturns<string> =>
  spawnSync(process.execPath, args(...command), { cwd: root, encoding: 'utf8', env: { ...env, ...more } });
export const longer = (...command: string[]): SpawnSyncReturns<string> => longerIn({}, ...command);

/** A command in this process: what it prints, and the message of what it throws. */
export async function longerHere(command: Command, ...args: string[]): Promise<{ out: string; warned: string; said: string }> {
  const streams = { out: '', warned: '' };
  const taken = ([[process.stdout, 'out'], [process.stderr, 'warned']] as const).map(([stream, to]) => t.intercept(stream, 'write', { value: (text: string) => { streams[to] += text; return true; }, writable: true }));
  let said = '';
  try {
    await command.exitOverride().configureOutput({ writeErr: () => undefined }).parseAsync(args, { from: 'user' });
  } catch (error) {
    said = (error as Error).message;
  } finally {
    for (const { restore } of taken) restore();
  }
  return { ...streams, said };
}
