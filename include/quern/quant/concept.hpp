// SPDX-License-Identifier: Apache-2.0
#pragma once
// template <quern::quantizer Q> void f();   // Q = quern::affine<4, 16>, quern::real<quern::f16>, ...

#include <concepts>
#include <cstdint>
#include <quern/core/config.hpp>
#include <quern/core/name.hpp>

namespace quern::inline v0 {

/// The numbers shared by a run of weights: w = scale * value(code) + offset, where value is the code itself,
/// or its entry in a codebook.
struct run_params {
  float scale = 0, offset = 0;
};

inline namespace QUERN_BUILD {

/// The whole part of @p c within 0..top; a NaN gives 0. Written so that compilers turn a loop of it into
/// vectors.
QUERN_HD constexpr std::uint32_t clamp_code(float c, int top) {
  const float largest = static_cast<float>(top), low = c > 0 ? c : 0.0f;
  return static_cast<std::uint32_t>(static_cast<int>(low < largest ? low : largest));
}

}  // namespace QUERN_BUILD

/// A quantizer: an empty type that turns a weight into a code of `bits` bits and back.
///
/// `run` weights along the inputs share one run_params (0: none are needed). The laws the compiler cannot
/// check:
///  - decode(encode(0, p), p) == 0 exactly for every p that `stored` returned,
///  - decode(encode(decode(c, p), p), p) == decode(c, p),
///  - `stored(p, row)` is what remains of p after a round trip through the file,
///  - |decode(encode(w, p), p) - w| is at most half a step for w in the range that `fit` was given, before
///    the rounding of p.
template <class Q>
concept quantizer = requires(float w, std::uint32_t code, run_params p) {
  typename Q::code_type;
  {Q::bits + Q::run + Q::scale_bits + Q::zero_bits};  // stored bits per code, per run
  { Q::row_scaled } -> std::convertible_to<bool>;     // scales are multipliers of one fp16 scale per row
  { Q::encode(w, p) } -> std::same_as<std::uint32_t>;
  { Q::decode(code, p) } -> std::same_as<float>;
  { Q::fit(w, w) } -> std::same_as<run_params>;     // smallest and largest weight of the run, 0 included
  { Q::row_scale(w) } -> std::same_as<float>;       // from the largest |scale| of a row
  { Q::stored(p, w) } -> std::same_as<run_params>;  // p, row scale
  { Q::scale_code(p, w) } -> std::same_as<std::uint32_t>;
  { Q::zero_code(p) } -> std::same_as<std::uint32_t>;
  { Q::params(code, code, w) } -> std::same_as<run_params>;  // scale code, zero code, row scale
  {Q::label()};
};

}  // namespace quern::inline v0
