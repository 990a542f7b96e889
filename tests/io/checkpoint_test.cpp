// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <quern/format/pack.hpp>
#include <quern/io/checkpoint.hpp>
#include <quern/kernel/cpu/multiply.hpp>
#include <string>

#include "../formats.hpp"
#include "../support.hpp"

using namespace quern;
using namespace quern_test;

namespace {

std::string temporary(const char* name) {
  const char* folder = std::getenv("TMPDIR");
  return std::string(folder != nullptr ? folder : "/tmp") + "/quern_checkpoint_" + name + ".safetensors";
}

template <class P, class Q>
matrix<P, Q> example(std::size_t rows, std::size_t cols) {
  rng g(5);
  const dense_matrix w = random_matrix(rows, cols, g);
  return pack<P, Q>(w.view(), random_mask<P>(rows, cols, 0.5f, g));
}

/// Writes, maps, multiplies in place: the same bits as from memory.
template <class P, class Q>
void through_a_file() {
  INFO(std::string(P::label().c_str()) << " " << Q::label().c_str());
  const auto w = example<P, Q>(37, 150);
  const std::string path = temporary("round_trip");
  safetensors_writer out;
  add_packed(out, "w", w.view());
  const float odd[3] = {1, 2,
                        3};  // not a multiple of 64 bytes: must not disturb the alignment of the streams
  out.add("a", dtype::f32, {3}, std::as_bytes(std::span(odd)));
  out.write(path).value();

  const auto file = safetensors_file::open(path);
  REQUIRE(file);
  CHECK(is_packed(*file, "w"));
  CHECK_FALSE(is_packed(*file, "a"));
  std::size_t stored = 0;
  for (const tensor_info& t : file->tensors())
    if (t.name != "a") stored += t.bytes;
  CHECK(stored == w.bytes().total());  // bits per weight are those of the file
  const auto mapped = find_packed<P, Q>(*file, "w");
  REQUIRE_MESSAGE(mapped, mapped.error().what());
  std::vector<float> x(150, 0.5f), y(37), z(37);
  multiply(w, x, y);
  multiply(*mapped, x, z);
  CHECK(y == z);
  CHECK_FALSE(find_packed<dense, affine<4, 16>>(*file, "w"));
  CHECK_FALSE(find_packed<P, Q>(*file, "v"));
  std::remove(path.c_str());
}

/// A copy of the streams with one byte changed must be refused, and the error must name the stream.
template <class P, class Q>
void hostile(const matrix<P, Q>& w, stream s, std::size_t byte, int value) {
  matrix<P, Q> bad = w.clone();
  bad.writable(s)[byte] = static_cast<std::byte>(value);
  const auto r = checked<P, Q>(bad.view().raw(), bad.bytes());
  REQUIRE_FALSE(r);
  CHECK(std::string(r.error().what()).find(stream_name(s)) != std::string::npos);
}

}  // namespace

TEST_CASE("packed matrices are multiplied in a mapped file") {
  through_a_file<dense, affine<3, 16, two_level>>();
  through_a_file<group<16>, affine<4, 16>>();
  through_a_file<group_nm<2, 4, 16>, symmetric<4, 16, bf16>>();
  through_a_file<bsr<16, 32>, affine<4, 32, f16_offset>>();
  through_a_file<nm<2, 4>, real<f16>>();
  through_a_file<bitmap, codebook<nf4, 32>>();
}

TEST_CASE("views of a mapped file survive its being moved") {
  const auto w = example<group<16>, affine<4, 16>>(37, 150);
  const std::string path = temporary("moved");
  safetensors_writer out;
  add_packed(out, "w", w.view());
  out.write(path).value();
  auto opened = safetensors_file::open(path);
  REQUIRE(opened);
  const auto view = find_packed<group<16>, affine<4, 16>>(*opened, "w");
  REQUIRE(view);
  safetensors_file first = std::move(*opened);
  auto again = safetensors_file::open(path);
  REQUIRE(again);
  *again = std::move(first);  // by assignment as well
  const auto same = find_packed<group<16>, affine<4, 16>>(*again, "w");
  REQUIRE(same);
  CHECK((*same)[stream::codes] == (*view)[stream::codes]);
  std::vector<float> x(150, 0.5f), y(37), z(37);
  multiply(w, x, y);
  multiply(*view, x, z);
  CHECK(y == z);
  std::remove(path.c_str());
}

TEST_CASE("checked refuses what a kernel would trust") {
  const auto listed = example<bsr<16, 16>, affine<4, 16>>(48, 320);
  hostile(listed, stream::begin, 0, 1);     // does not start at 0
  hostile(listed, stream::begin, 7, 0x7f);  // far past the last block
  hostile(listed, stream::index, 1, 0xff);  // a block column that is not there
  hostile(listed, stream::scale, 1, 0x7c);  // an infinite or NaN scale
  const auto masked = example<group<16>, affine<4, 16>>(20, 320);
  hostile(masked, stream::begin, 4, 0xff);
  hostile(masked, stream::index, 33, 0xff);  // window 1 of 20 units has 4: bits past the last unit
  const auto uniform = example<group_nm<2, 4, 16>, real<float>>(20, 320);
  hostile(uniform, stream::index, 0, 0x0f);  // 4 of 4
  matrix<group_nm<2, 4, 16>, real<float>> nan = uniform.clone();
  nan.writable(stream::codes)[3] = std::byte{0x7f};
  nan.writable(stream::codes)[2] = std::byte{0xc0};
  CHECK_FALSE(checked<group_nm<2, 4, 16>, real<float>>(nan.view().raw(), nan.bytes()));
  const auto positions = example<nm<2, 4>, affine<4, 16>>(16, 64);
  hostile(positions, stream::index, 0, 0xff);  // first of two positions is already the last
  storage less = positions.bytes();
  less.bytes[static_cast<int>(stream::codes)] -= 64;
  CHECK_FALSE(checked<nm<2, 4>, affine<4, 16>>(positions.view().raw(), less));
  packed_view shifted = positions.view().raw();
  shifted.at[static_cast<int>(stream::codes)] += 4;
  CHECK_FALSE(checked<nm<2, 4>, affine<4, 16>>(shifted, positions.bytes()));
  // Products of the shape may wrap, or be nothing beside an empty dimension.
  constexpr std::size_t all = ~std::size_t{0};
  for (const auto& [rows, cols] :
       {std::pair{all, std::size_t{0}}, {std::size_t{0}, all}, {all / 2 + 1, std::size_t{2}}}) {
    const packed_view wrapped{rows, cols, 0, {}};
    CHECK_FALSE(checked<dense, affine<4, 16, two_level>>(wrapped, {}));
    CHECK_FALSE(checked<group<16>, affine<4, 16>>(wrapped, {}));
  }
  // A finite bf16 scale may make infinite weights.
  const auto wide = example<dense, symmetric<4, 16, bf16>>(16, 64);
  hostile(wide, stream::scale, 1, 0x7f);  // 2^127 and above, times 8
  const auto table = example<dense, codebook<fp4, 16, bf16>>(16, 64);
  hostile(table, stream::scale, 1, 0x7f);
  packed_view huge = positions.view().raw();
  huge.rows = std::size_t{1} << 40;
  CHECK_FALSE(checked<nm<2, 4>, affine<4, 16>>(huge, positions.bytes()));
  CHECK(checked<nm<2, 4>, affine<4, 16>>(positions.view().raw(), positions.bytes()));
}

TEST_CASE("descriptions that lie are errors") {
  const std::string path = temporary("lie");
  for (const char* text :
       {"", "1", "1 dense affine<4,16> 1 1 64", "2 dense affine<4,16> 1 1", "2 dense affine<4,16> 1 1 x",
        "2 dense affine<4,16> -1 1 16", "2 dense affine<4,16> 1 1 16 ",
        "2 dense affine<4,16> 99999999999999999999 1 16", "2 dense affine<4,16> 1 1 16"}) {
    CAPTURE(text);
    safetensors_writer out;
    out.metadata(std::string(packed_key) + "w", text);
    out.write(path).value();
    const auto file = safetensors_file::open(path);
    REQUIRE(file);
    CHECK_FALSE(find_packed<dense, affine<4, 16>>(*file, "w"));
  }
  std::remove(path.c_str());
}
