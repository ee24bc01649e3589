#!/usr/bin/env bash
# Tests and figures of this host's GPU, from a folder that `npm run gpu:bundle` made: bash run.sh [--seconds N]
# The command line of the library on this host: bash run.sh longer doctor
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
if [ ! -e files/unpacked ]; then
  mkdir -p files
  if command -v xz >/dev/null; then xz -dc files.tar.xz | tar -x -C files -f -
  else python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' files.tar.xz files
  fi
  touch files/unpacked
fi
export LONGER_GPU_RESULTS="${LONGER_GPU_RESULTS:-$PWD/results}"
export PATH="$PATH:/usr/local/cuda/bin"
cd files
if [ "${1:-}" = longer ]; then
  shift
  exec bin/node dist/cli/main.js "$@"
fi
bin/node dist/cli/main.js doctor
exec bin/node scripts/gpu/main.cjs "$@"
