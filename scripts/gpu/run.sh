#!/usr/bin/env bash
# Tests and figures of this host's GPU, from a folder that `npm run gpu:bundle` made: bash run.sh [--seconds N]
# Exit code 2: no GPU here, and what runs on the CPU is right; 1: something failed.
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
status=0
bin/node scripts/gpu/main.cjs "$@" || status=$?
if [ "$status" = 2 ]; then
  echo 'Without a GPU the library is tried on the CPU: training steps, cached and plain scores, ten proofs.'
  bin/node dist/cli/main.js verify --model longer --requests 2
fi
exit "$status"
