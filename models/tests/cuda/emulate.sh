#!/usr/bin/env bash
# Every CUDA kernel on the host, against its formula in float64: no GPU and no CUDA toolkit needed, only a C++17 compiler.
#
#     models/tests/cuda/emulate.sh [COMPILER]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"${1:-${CXX:-c++}}" -std=c++17 -O1 -Wall -Wno-unknown-pragmas -Wno-sign-compare -I "$here" -I "$here/../../src/cuda" "$here/emulate.cpp" -o "$out/emulate"
"$out/emulate"
