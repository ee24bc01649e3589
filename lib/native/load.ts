import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { LongerError } from '../errors.ts';
import type { NativeAddon } from './types.ts';

const require = createRequire(import.meta.url);
let loaded: NativeAddon | undefined;

/**
 * The addon: a local build (build/Release) or the package's prebuilt binary (prebuilds/<platform>-<arch>).
 * @throws LongerError ERR_NATIVE_LOAD with what was looked for and the command that helps.
 */
export function loadNative(): NativeAddon {
  if (loaded) return loaded;
  const root = dirname(require.resolve('#package'));
  try {
    return (loaded = (require('node-gyp-build') as (dir: string) => NativeAddon)(root));
  } catch (cause) {
    const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
    const libc = report.header?.glibcVersionRuntime;
    throw new LongerError(
      'ERR_NATIVE_LOAD',
      `no native binary of longer-rec could be loaded for ${process.platform}-${process.arch} (${libc ? `glibc ${libc}` : 'no glibc'}, node ${process.versions.node}). ` +
        `Looked in ${root}/build/Release and ${root}/prebuilds/${process.platform}-${process.arch}: ${cause instanceof Error ? cause.message.split('\n')[0] : String(cause)}`,
      {
        remedy:
          'Prebuilt binaries are for linux-x64 with glibc 2.28 or newer; elsewhere build from source: npm install cmake-js node-addon-api && node node_modules/longer-rec/scripts/build-native.cjs (needs CMake 3.24+ and a C++17 compiler)',
        cause,
      },
    );
  }
}
