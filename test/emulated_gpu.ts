/** The addon with an emulated GPU in CUDA's place, for this process and those that it starts: import it before anything is loaded. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const build = spawnSync(process.execPath, [join(root, 'scripts', 'build-emulated.cjs')], { encoding: 'utf8' });
if (build.status !== 0) throw new Error(`the addon with the emulated GPU does not build:\n${(build.stdout + build.stderr).slice(-3000)}`);
/** What LONGER_REC_PREBUILD names. */
export const prebuild = join(root, 'build', 'cmake', 'emulated');
process.env['LONGER_REC_PREBUILD'] = prebuild;
