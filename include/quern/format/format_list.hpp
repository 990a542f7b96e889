// SPDX-License-Identifier: Apache-2.0
#pragma once
// using formats = quern::format_list<quern::format<quern::dense, quern::affine<4, 32>>,
//                                    quern::format<quern::group<16>, quern::affine<4, 16>>>;
// const bool listed =
//     quern::visit_format<formats>("group<16>", "affine<4,16>", [&]<class P, class Q>() { ... });

#include <quern/core/config.hpp>
#include <quern/format/layout.hpp>

namespace quern::inline v0 {

/// A pattern and a quantizer.
template <sparsity_pattern P, quantizer Q>
struct format {
  static_assert(layout<P, Q>::supported,
                "quern::format: this quantizer cannot follow this pattern; layout<P, Q>::why_not() says why");
  using pattern = P;
  using quantizer = Q;
};

/// The formats that a program is compiled for. A program that reads files chooses them; nothing else is
/// instantiated.
template <class... Formats>
struct format_list {
  static constexpr std::size_t size = sizeof...(Formats);
};

/// Lists one after the other.
template <class... Lists>
struct concat_formats;
template <class... A>
struct concat_formats<format_list<A...>> {
  using type = format_list<A...>;
};
template <class... A, class... B, class... Rest>
struct concat_formats<format_list<A...>, format_list<B...>, Rest...>
    : concat_formats<format_list<A..., B...>, Rest...> {};

/// All supported pairs of one pattern with several quantizers.
template <sparsity_pattern P, quantizer... Qs>
using formats_of = format_list<format<P, Qs>...>;

inline namespace QUERN_BUILD {

/// Calls f.operator()<P, Q>() for the format with these names: the one place where names of a file or of a
/// command line become types.
/// @returns whether the list has it
template <class List, class F>
bool visit_format(const char* pattern, const char* quantizer, F&& f) {
  return [&]<class... Fs>(format_list<Fs...>) {
    return ((Fs::pattern::label() == pattern && Fs::quantizer::label() == quantizer
                 ? (f.template operator()<typename Fs::pattern, typename Fs::quantizer>(), true)
                 : false) ||
            ...);
  }(List{});
}

/// Calls f.operator()<P, Q>() for every format of the list.
template <class List, class F>
void for_each_format(F&& f) {
  [&]<class... Fs>(format_list<Fs...>) {
    (f.template operator()<typename Fs::pattern, typename Fs::quantizer>(), ...);
  }(List{});
}

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
