#!/usr/bin/env bash
# Makes the bundle for GPU hosts, with the addon of this build and quickly packed, unpacks it in an empty folder and runs it there with nothing but the
# system's tools: the CPU path, and the sentence of a host without a GPU.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
node scripts/gpu/bundle.cjs --addon build/Release/longer_rec.node --level 1
there=$(mktemp -d)
trap 'rm -rf "$there"' EXIT
cp build/gpu-bundle/* "$there"
bare() { env -i PATH=/usr/bin:/bin HOME="$there" bash "$there/run.sh" "$@"; }
bare longer verify --model longer --requests 2 --json >"$there/verify.json"
grep -q '"pass": true' "$there/verify.json"
command -v nvidia-smi >/dev/null && exit 0
status=0
said=$(bare 2>&1) || status=$?
[ "$status" -eq 2 ] && grep -q 'gpu: no GPU here' <<<"$said"
