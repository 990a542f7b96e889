// SPDX-License-Identifier: Apache-2.0
// Decoding in registers against the packed layout's own functions, for every number of bits and kind of cell.
#include <quern/kernel/cuda/decode.hpp>

#include <doctest/doctest.h>

#include <quern/core/rng.hpp>
#include <vector>

using namespace quern;
using namespace quern::cuda;

namespace {

std::uint32_t chunk_of(const std::byte* plane, cell c, int cell_bytes, int chunk, int number) {
  std::uint32_t v = 0;
  __builtin_memcpy(&v,
                   plane + c.first * static_cast<std::size_t>(cell_bytes) +
                       static_cast<std::size_t>((number * c.count + c.rank) * chunk),
                   static_cast<std::size_t>(chunk));
  return v;
}

/// Codes as `decode` puts them together from all planes, four to a word.
template <int Bits, int CellCodes, int Plane = 0>
std::uint32_t gathered(const std::byte* const (&planes)[3], cell c, int j, int column, bool bytes) {
  constexpr int width = plane_width(Bits, Plane), size = CellCodes * width / 8;
  std::uint32_t codes;
  if (bytes) {
    using p = byte_plane<width, CellCodes>;
    codes = p::codes(j, column, chunk_of(planes[Plane], c, size, p::chunk, p::chunk_at(j, column)));
  } else {
    using p = fragment_plane<width, CellCodes>;
    const auto word = [&](int i) {
      return chunk_of(planes[Plane], c, size, p::chunk, p::chunk_at(j, column, i));
    };
    codes = p::codes(j, column, word(0), p::words == 2 ? word(1) : 0);
  }
  codes <<= plane_shift(Bits, Plane);
  if constexpr (Plane + 1 < plane_count(Bits))
    codes |= gathered<Bits, CellCodes, Plane + 1>(planes, c, j, column, bytes);
  return codes;
}

template <int Bits, int CellCodes>
void check_cells() {
  CAPTURE(Bits);
  CAPTURE(CellCodes);
  rng g(Bits * 100 + CellCodes);
  for (const int count : {1, 5, 16}) {
    std::vector<std::byte> memory[3];
    std::byte* write[3] = {};
    const std::byte* read[3] = {};
    for (int i = 0; i < 3; ++i) {
      memory[i].resize(40 * CellCodes + 4);
      write[i] = memory[i].data();
      read[i] = memory[i].data();
    }
    std::vector<std::vector<std::uint32_t>> codes(static_cast<std::size_t>(count));
    for (int rank = 0; rank < count; ++rank) {
      for (int k = 0; k < CellCodes; ++k)
        codes[static_cast<std::size_t>(rank)].push_back(static_cast<std::uint32_t>(g.below(1u << Bits)));
      store_cell<Bits, CellCodes>({write[0], write[1], write[2]}, {7, count, rank},
                                  codes[static_cast<std::size_t>(rank)].data());
    }
    for (int rank = 0; rank < count; ++rank)
      for (int j = 0; j < CellCodes / 16; ++j)
        for (int c = 0; c < 4; ++c)
          for (const bool bytes : {false, true}) {
            const std::uint32_t got =
                gathered<Bits, CellCodes>({read[0], read[1], read[2]}, {7, count, rank}, j, c, bytes);
            for (int i = 0; i < 4; ++i) {
              const int k =
                  16 * j + (bytes ? fragment<8>::a(c, i).col : fragment<16>::a(c, i % 2 + i / 2 * 4).col);
              REQUIRE((got >> 8 * i & 0xff) ==
                      codes[static_cast<std::size_t>(rank)][static_cast<std::size_t>(k)]);
            }
          }
  }
}
template <int Bits>
void check_widths() {
  check_cells<Bits, 16>();
  check_cells<Bits, 32>();
  check_cells<Bits, 48>();
  check_cells<Bits, 64>();
}

template <class T, int Bits>
void check_decoding() {
  CAPTURE(Bits);
  for (std::uint32_t zero = 0; zero < 1u << Bits; ++zero) {
    const decoded<T, Bits> decode(zero);
    for (std::uint32_t code = 0; code < 1u << Bits; ++code) {
      const std::uint32_t other = (1u << Bits) - 1 - code;
      const registers<2> r = decode(code | other << 8 | code << 16 | other << 24);
      const float a = static_cast<float>(code) - static_cast<float>(zero);
      const float b = static_cast<float>(other) - static_cast<float>(zero);
      REQUIRE(r.word[0] == pair_of<T>(a, b));
      REQUIRE(r.word[1] == pair_of<T>(a, b));
      if (Bits == 8 ? zero == 128 : true) {
        const std::uint32_t s = signed_codes<Bits>(code | other << 8, zero);
        REQUIRE(static_cast<float>(static_cast<std::int8_t>(s & 0xff)) == a);
        REQUIRE(static_cast<float>(static_cast<std::int8_t>(s >> 8 & 0xff)) == b);
      }
    }
  }
}

}  // namespace

TEST_CASE("lanes find their codes in cells of every width") {
  check_widths<2>();
  check_widths<3>();
  check_widths<4>();
  check_widths<5>();
  check_widths<6>();
  check_widths<7>();
  check_widths<8>();
}

TEST_CASE("code - zero is exact for every code and zero") {
  check_decoding<f16, 2>();
  check_decoding<f16, 4>();
  check_decoding<f16, 7>();
  check_decoding<f16, 8>();
  check_decoding<bf16, 3>();
  check_decoding<bf16, 4>();
  check_decoding<bf16, 7>();
  check_decoding<bf16, 8>();
}

TEST_CASE("positions of the packed layout become metadata of mma.sp") {
  rng g(9);
  for (int round = 0; round < 50; ++round) {
    std::uint32_t nibbles[2] = {}, expected[2] = {};
    for (int row = 0; row < 2; ++row) {
      std::uint32_t positions[16];
      for (int w = 0; w < 8; ++w) {
        positions[2 * w] = static_cast<std::uint32_t>(g.below(3));
        positions[2 * w + 1] =
            positions[2 * w] + 1 + static_cast<std::uint32_t>(g.below(3 - positions[2 * w]));
        expected[row] |= (positions[2 * w] | positions[2 * w + 1] << 2) << 4 * w;
      }
      std::byte plane[4] = {};
      store_cell<2, 16>({plane, nullptr, nullptr}, {0, 1, 0}, positions);
      std::uint32_t word;
      __builtin_memcpy(&word, plane, 4);
      nibbles[row] = window_nibbles(word);
      REQUIRE(nibbles[row] == expected[row]);
    }
    for (int lane = 0; lane < 2; ++lane) {
      const std::uint32_t m = metadata_of_halves(lane, nibbles[0], nibbles[1]);
      for (int n = 0; n < 8; ++n) {
        const place p = fragment<16>::metadata(lane, n);
        REQUIRE((m >> 4 * n & 15) == (expected[p.row / 8] >> 4 * p.col & 15));
      }
    }
  }
}

TEST_CASE("bytes are picked as prmt does") {
  CHECK(pick_bytes(0x33221100u, 0x77665544u, 0x7410u) == 0x77441100u);
  CHECK(pick_bytes(0x33221100u, 0x77665544u, 0x0246u) == 0x00224466u);
}
