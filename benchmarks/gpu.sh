#!/usr/bin/env bash
# The GPU campaign in parts of under ten minutes: repeat the command until it says that it is done.
#   benchmarks/gpu.sh [SECONDS] [--copy_to=FOLDER] [--source=crop_part1.tar]
#   benchmarks/gpu.sh [SECONDS] --retry         also repeat the points that have failed
#   benchmarks/gpu.sh --dry-run --out=FILE      tiny and on CPU, for testing
# It first installs the wheels and copies the packed faces that benchmarks/gpu_package.py has made, if they exist.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=540
case "${1:-}" in
  "" | -*) ;;
  *[!0-9]*) echo "error: SECONDS is a whole number, not $1" >&2; exit 2 ;;
  *) seconds=$((10#$1)); shift ;;
esac
python=${PYTHON:-python3} package=${PACKAGE:-scratch/gpu} site=$PWD/runs/gpu/site
wheels=("$package"/wheels/*.whl)
if [ -e "${wheels[0]}" ]; then
  names=$(basename -a "${wheels[@]}")
  if [ ! -e "$site/.complete" ] || [ "$names" != "$(cat "$site/.complete")" ]; then
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" \
      "${wheels[@]}"
    echo "$names" > "$site/.complete"
  fi
fi
if [ -d "$site" ]; then export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"; fi
for data in crop_part1 fairface utkface; do
  if [ -d "$package/$data" ]; then mkdir -p runs/gpu/data && cp -ru "$package/$data/." runs/gpu/data; fi
done
# Compiled programs of stopped points, and what XLA measured for those that were still being compiled, which takes
# minutes for Attention-56 (compile_cached refers to whole programs only).
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR-$PWD/runs/gpu/jax}"
export TORCHINDUCTOR_CACHE_DIR="${TORCHINDUCTOR_CACHE_DIR-$PWD/runs/gpu/torch}"
exec "$python" -m benchmarks.campaign gpu --seconds="$((seconds - SECONDS))" "$@"
