import { spawnSync, type SpawnSyncReturns } from 'node:child_process';
import { join } from 'node:path';

export const root = join(import.meta.dirname, '..');
/** Without tap's own loader. */
export const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => name !== 'NODE_OPTIONS'));
/** Arguments of Node that run the sources of `longer`. */
export const args = (...command: string[]): string[] => ['--import', 'tsx', join(root, 'lib', 'cli', 'main.ts'), ...command];
export const longerIn = (more: Readonly<Record<string, string>>, ...command: string[]): SpawnSyncReturns<string> =>
  spawnSync(process.execPath, args(...command), { cwd: root, encoding: 'utf8', env: { ...env, ...more } });
export const longer = (...command: string[]): SpawnSyncReturns<string> => longerIn({}, ...command);
