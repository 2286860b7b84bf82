#!/usr/bin/env bash
# What can be told of the kernels without a GPU, for compute capability 8.0 and 9.0: that they compile, registers and shared memory of
# each, that none spills, and that attention multiplies on tensor cores. Needs nvcc and ptxas.
#
#     models/tests/cuda/ptx.sh [--quiet]
set -euo pipefail
source=$(cd "$(dirname "$0")" && pwd)/../../src/cuda
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for arch in 80 90; do
  for file in "$source"/*.cu; do
    name=$(basename "$file" .cu)
    nvcc --ptx -gencode "arch=compute_$arch,code=sm_$arch" -O3 -std=c++17 --expt-relaxed-constexpr "$file" -o "$out/$name.ptx"
    ptxas -arch "sm_$arch" -v "$out/$name.ptx" -o /dev/null 2>&1 |
      sed -nE "s/.*Compiling entry function '([^']+)'.*/\1/p; s/.* ([0-9]+) bytes spill stores, ([0-9]+) bytes.*/\1 \2/p; s/.*Used ([0-9]+) registers(.*)/\1 \2/p" |
      paste - - - | awk -F'\t' -v arch="$arch" '{
        split($2, spills, " "); split($3, used, " "); smem = $3; if (!sub(/ bytes smem.*/, "", smem)) smem = "0"; sub(/.* /, "", smem)
        printf "sm_%s %-44s %3d registers %6d bytes shared %4d bytes spilled\n", arch, $1, used[1], smem, spills[1] + spills[2] }'
  done | tee "$out/table" | if [ "${1:-}" = --quiet ]; then cat > /dev/null; else cat; fi
  if grep -v " 0 bytes spilled" "$out/table"; then
    echo "these kernels spill registers on sm_$arch" >&2
    exit 1
  fi
  for d in 32 64 96 128; do
    for pass in forward backward_q backward_kv; do
      kernel=attention_${pass}_bf16_$d
      count=$(awk "/entry $kernel\\(/ {inside = 1} inside && /mma.sync/ {count++} inside && /^}/ {print count + 0; exit}" "$out/attention.ptx")
      [ "$count" -gt 0 ] || { echo "$kernel does not use tensor cores on sm_$arch" >&2; exit 1; }
    done
  done
done
echo "all kernels compile for sm_80 and sm_90, none spills, attention uses tensor cores"
