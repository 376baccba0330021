#!/usr/bin/env bash
# The GPU campaign, in turns of under ten minutes: give the command again until it says that it is done.
#   benchmarks/gpu.sh [SECONDS] [--source=crop_part1.tar]
#   benchmarks/gpu.sh --dry-run --out=FILE      tiny and on CPU: shows that it runs
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=540
case "${1:-}" in [0-9]*) seconds=$1; shift ;; esac
# A point that was stopped finds here what it had compiled: whole programs only, for of those compile_cached tells.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR-$PWD/runs/gpu/jax}"
export JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES=none
export TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR-$PWD/runs/gpu/torch}"
exec "${PYTHON:-python}" -m benchmarks.campaign gpu --seconds="$seconds" "$@"
