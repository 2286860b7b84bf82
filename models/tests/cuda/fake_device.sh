#!/usr/bin/env bash
# Libraries in which the host plays a CUDA device, in the folder DIR: a program built with the feature `cuda` that finds them runs on
# it, slowly, without a GPU.
#
#     models/tests/cuda/fake_device.sh DIR [COMPILER]
#     LD_LIBRARY_PATH=DIR TALLOW_TEST_SMALL=1 target/release/deps/cuda-… --ignored --test-threads 1
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source=$here/../../src/cuda
out=$1 compiler=${2:-${CXX:-c++}}
mkdir -p "$out"
for file in "$source"/*.cu; do
  space=$(basename "$file" .cu)
  "$compiler" -std=c++17 -E -P -x c++ -I "$here" -I "$source" "$file" | tr '\n' ' ' |
    grep -oE 'extern "C" +void +[a-z0-9_]+' | sed -E "s/.* ([a-z0-9_]+)$/KERNEL($space, \1)/" | sort -u
done > "$out/registry.h"
"$compiler" -std=c++17 -O1 -fPIC -shared -Wall -Wno-unknown-pragmas -Wno-sign-compare -I "$here" -I "$source" -I "$out" \
  "$here/fake_device.cpp" -o "$out/libcuda.so.1"
for name in libcudart.so libcublas.so libcublasLt.so libcurand.so libnvrtc.so; do
  ln -sf libcuda.so.1 "$out/$name"
done
