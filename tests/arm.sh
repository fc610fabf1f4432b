#!/bin/sh
# Builds the C++ tests for 64-bit ARM and runs them under emulation, on a processor without the dot
# product, one with it, and one with everything that the emulator knows.
#
# Needs Debian's g++-aarch64-linux-gnu and qemu-user. Says nothing about speed.
set -eu
cd "$(dirname "$0")/.."
cmake --preset arm64
cmake --build --preset arm64
for cpu in cortex-a72 neoverse-n1 max; do
  echo "== $cpu"
  RWKVCPP_EMULATED=1 qemu-aarch64 -cpu "$cpu" build/arm64/tests/rwkvcpp_tests
done
