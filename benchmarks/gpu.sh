#!/usr/bin/env bash
# The GPU campaign in parts of under ten minutes: repeat the command until it says that it is done.
#   benchmarks/gpu.sh [SECONDS] [--source=crop_part1.tar]
#   benchmarks/gpu.sh --dry-run --out=FILE      tiny and on CPU, for testing
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=540
case "${1:-}" in [0-9]*) seconds=$1; shift ;; esac
# Compiled programs of stopped points; only whole programs are cached, because compile_cached refers to those.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR-$PWD/runs/gpu/jax}"
export JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES=none
export TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR-$PWD/runs/gpu/torch}"
exec "${PYTHON:-python}" -m benchmarks.campaign gpu --seconds="$seconds" "$@"
