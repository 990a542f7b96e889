// SPDX-License-Identifier: Apache-2.0
// Built with -ffast-math, which takes it that nothing is NaN or infinite: such inputs reach the scales of int8
// activations all the same, wherever they are.
#include <bit>
#include <cstdint>
#include <cstdio>
#include <quern/kernel/cpu/prepare.hpp>
#include <vector>

namespace {

template <class Isa>
int failures() {
  if (!Isa::available()) return 0;
  int bad = 0;
  for (const std::uint32_t bits : {0x7fc00000u, 0xff800000u})
    for (const std::size_t at : {0u, 5u, 130u, 199u}) {
      std::vector<float> x(200, 1.0f);
      x[at] = std::bit_cast<float>(bits);
      const quern::span2<const float> in(x.data(), 1, x.size());
      const quern::activations<quern::int8_per_token, quern::isa_list<Isa>> token(in);
      const quern::activations<quern::int8_groups<32>, quern::isa_list<Isa>> groups(in);
      const auto not_finite = [](float f) {
        return (std::bit_cast<std::uint32_t>(f) & 0x7f800000u) == 0x7f800000u;
      };
      const bool codes = token.view().codes(0)[at] == 0 && groups.view().codes(0)[at] == 0;
      if (not_finite(token.view().scales(0)[0]) && not_finite(groups.view().scales(0)[at / 32]) && codes)
        continue;
      std::printf("%s: input %zu, %08x, got lost\n", Isa::label().c_str(), at, static_cast<unsigned>(bits));
      ++bad;
    }
  return bad;
}

}  // namespace

int main() {
  using namespace quern;
  return failures<isa::scalar>() + failures<isa::avx2>() + failures<isa::avx512_vnni>() == 0 ? 0 : 1;
}
