// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <quern/format/unpack.hpp>
#include <quern/io/gguf_matrix.hpp>
#include <string>

using namespace quern;

namespace {

/// A GGUF tensor packed as it is decodes to the floats of the reader's own dequantization; only the sign of a
/// zero may differ (scale * 0 against scale * 8 - scale * 8).
template <class Q>
void same_as_dequantized(const gguf_file& file) {
  INFO(std::string(Q::label().c_str()));
  std::size_t tried = 0;
  for (const gguf_tensor& t : file.tensors()) {
    if (t.type != gguf_type_for<Q>()) continue;
    ++tried;
    const auto packed = pack_gguf<Q>(file, t);
    REQUIRE_MESSAGE(packed, packed.error().what());
    const auto floats = dequantize(file, t, serial{});
    REQUIRE(floats);
    std::vector<float> out(floats->size());
    unpack(packed->view(), {out.data(), t.rows(), t.cols()});
    CHECK(out == *floats);
  }
  CHECK(tried > 0);
}

}  // namespace

TEST_CASE("GGUF blocks are packed without loss") {
  const auto file = gguf_file::open(QUERN_SOURCE_DIR "/tests/golden/gguf_types.gguf");
  REQUIRE_MESSAGE(file, file.error().what());
  same_as_dequantized<symmetric<4, 32>>(*file);
  same_as_dequantized<affine<4, 32, f16_offset>>(*file);
  same_as_dequantized<symmetric<5, 32>>(*file);
  same_as_dequantized<affine<5, 32, f16_offset>>(*file);
  same_as_dequantized<symmetric<8, 32>>(*file);
}

TEST_CASE("a tensor of another type is refused") {
  const auto file = gguf_file::open(QUERN_SOURCE_DIR "/tests/golden/gguf_types.gguf");
  REQUIRE(file);
  for (const gguf_tensor& t : file->tensors())
    if (t.type != gguf_type::q4_0) {
      const auto r = pack_gguf<symmetric<4, 32>>(*file, t);
      REQUIRE_FALSE(r);
      CHECK(std::string(r.error().what()).find("symmetric<4,32> holds type 2") != std::string::npos);
      break;
    }
}
