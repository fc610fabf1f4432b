// Products per instruction set and weight type: GB/s of weights for one row,
// Gop/s for many, beside the roofs of this machine.
//
//   bench_kernels [--threads N] [--isa NAME] [--type NAME] [--rows 1,2,8,64,512]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "core/aligned_buffer.h"
#include "core/stopwatch.h"
#include "core/thread_pool.h"
#include "kernels/dispatch.h"
#include "ops/cpu/roofs.h"
#include "quant/activations.h"
#include "quant/format.h"

namespace rwkvcpp::bench {
namespace {

constexpr std::size_t kInputs = 2048;
constexpr std::size_t kOutputs = 2048;
constexpr std::size_t kOutputStride = kOutputs + kTileRows;  // no power of two, as in models
constexpr std::size_t kChunkRows = 128;                      // as models take long prompts

struct Options {
  int threads = 0;
  std::string isa, type;
  std::vector<std::size_t> rows = {1, 2, 4, 8, 16, 64, 128, 512};
};

std::vector<std::size_t> parse_rows(const char* text) {
  std::vector<std::size_t> rows;
  for (const char* at = text; *at != '\0';) {
    char* end;
    rows.push_back(std::strtoul(at, &end, 10));
    at = *end == ',' ? end + 1 : end;
    if (rows.back() == 0) {
      std::fprintf(stderr, "--rows is \"%s\", expected numbers like 1,8,64\n", text);
      std::exit(2);
    }
  }
  return rows;
}

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--threads") o.threads = std::atoi(argv[i + 1]);
    if (name == "--isa") o.isa = argv[i + 1];
    if (name == "--type") o.type = argv[i + 1];
    if (name == "--rows") o.rows = parse_rows(argv[i + 1]);
  }
  return o;
}

/// Tiles of random codes with scales of 1 (any bits will do for time).
AlignedBuffer random_tiles(const Format& f, std::size_t n_out) {
  AlignedBuffer tiles(n_out / kTileRows * (kInputs / f.block_inputs) * f.tile_bytes);
  std::vector<float> weights(kInputs * kTileRows);
  std::uint32_t state = 1;
  for (float& w : weights) {
    state = state * 1664525u + 1013904223u;
    w = static_cast<float>(state >> 8) * 0x1p-23f - 1.0f;
  }
  std::vector<std::uint8_t> rows(kTileRows * f.row_bytes(kInputs));
  f.quantize(weights.data(), kTileRows * kInputs / f.block_inputs, rows.data());
  const void* pointers[kTileRows];
  for (std::size_t r = 0; r < kTileRows; ++r) pointers[r] = rows.data() + r * f.row_bytes(kInputs);
  const std::size_t tile_row = kInputs / f.block_inputs * f.tile_bytes;
  f.pack(pointers, kInputs / f.block_inputs, tiles.data());
  for (std::size_t t = 1; t < tiles.size() / tile_row; ++t) {
    std::memcpy(tiles.data() + t * tile_row, tiles.data(), tile_row);
  }
  return tiles;
}

/// Seconds for n_rows of activations times n_out outputs.
double time_product(ThreadPool& pool, const kernels::KernelTable& table, const Format& f,
                    const AlignedBuffer& tiles, std::size_t n_rows) {
  const std::size_t tile_row = kInputs / f.block_inputs * f.tile_bytes;
  const std::size_t n_tiles = tiles.size() / tile_row;
  std::vector<float> x(n_rows * kInputs);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 255) - 127.0f;
  std::vector<ActivationBlock> blocks(n_rows * kInputs / kBlock);
  table.quantize(x.data(), blocks.size(), blocks.data(), 1);  // in any order
  // Outputs of usual width: a stream of weights is many such matrices.
  AlignedBuffer y(n_rows * kOutputStride * sizeof(float));
  // Steps that divide the width, so that no piece runs over it.
  std::size_t step = n_rows <= 8 && n_rows > 1 ? 2 : 4;
  while (n_rows == 1 && step < 32 && step * tile_row < (48 << 10)) step *= 2;
  const std::size_t row_bytes = kInputs / kBlock * sizeof(ActivationBlock);
  return median_seconds(n_rows > 64 ? 5 : 11, [&] {
    for (std::size_t row = 0; row < n_rows; row += kChunkRows) {
      pool.run((n_tiles + step - 1) / step, [&](std::size_t piece, int) {
        const std::size_t tile = piece * step;
        kernels::MatmulArgs args{tiles.data() + tile * tile_row,
                                 std::min(step, n_tiles - tile),
                                 kInputs / f.block_inputs,
                                 x.data() + row * kInputs,
                                 std::min(kChunkRows, n_rows - row),
                                 y.as<float>() + row * kOutputStride + tile * kTileRows % kOutputs,
                                 kOutputStride};
        if (!f.is_float)
          args.x = reinterpret_cast<const std::byte*>(blocks.data()) + row * row_bytes;
        table.matmul[static_cast<std::size_t>(f.type)](args);
      });
    }
  });
}

void run(const Options& o) {
  ThreadPool pool(o.threads);
  constexpr std::size_t kStream = std::size_t{256} << 20;
  const kernels::KernelTable& fastest = *kernels::supported_tables().back();
  const double read = read_roof(pool, fastest, kStream), int8 = int8_roof(pool, fastest);
  std::printf("%d threads, read roof %.1f GB/s, int8 roof %.0f Gop/s\n", pool.n_threads(), read,
              int8);
  std::printf("%-11s %-5s %5s %9s %7s %9s %7s\n", "isa", "type", "rows", "GB/s", "of roof", "Gop/s",
              "of roof");
  for (const kernels::KernelTable* table : kernels::supported_tables()) {
    if (!o.isa.empty() && o.isa != table->isa) continue;
    for (const Format& f : formats()) {
      if (!o.type.empty() && o.type != f.name) continue;
      for (const std::size_t rows : o.rows) {
        // One row streams from memory; many rows meet one matrix of usual size.
        const std::size_t n_out =
            rows <= 8 ? kStream / f.row_bytes(kInputs) / kTileRows * kTileRows : kOutputs;
        const AlignedBuffer tiles = random_tiles(f, n_out);
        const double time = time_product(pool, *table, f, tiles, rows);
        const double bytes = static_cast<double>(tiles.size()) / time / 1e9;
        const double ops = 2.0 * static_cast<double>(rows * n_out * kInputs) / time / 1e9;
        std::printf("%-11s %-5s %5zu %9.1f %6.0f%% %9.1f %6.0f%%\n", table->isa, f.name.data(),
                    rows, bytes, 100 * bytes / read, ops, 100 * ops / int8);
        std::fflush(stdout);
      }
    }
  }
}

}  // namespace
}  // namespace rwkvcpp::bench

int main(int argc, char** argv) { rwkvcpp::bench::run(rwkvcpp::bench::parse(argc, argv)); }
