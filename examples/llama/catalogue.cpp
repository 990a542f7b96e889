// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <llama/catalogue.hpp>
#include <llama/formats.hpp>
#include <quern/kernel/cpu/multiply.hpp>
#include <quern/pattern/bitmap.hpp>
#include <quern/pattern/bsr.hpp>
#include <quern/pattern/dense.hpp>
#include <quern/pattern/group.hpp>
#include <quern/pattern/group_nm.hpp>
#include <quern/pattern/nm.hpp>
#include <quern/quant/affine.hpp>
#include <quern/quant/codebook.hpp>
#include <quern/quant/real.hpp>
#include <quern/quant/symmetric.hpp>

namespace llama {
namespace {

using namespace quern;

template <class... T>
struct type_list {};

// Every pair of these is instantiated as numbers and four small functions.
using patterns = type_list<dense, bitmap, nm<1, 4>, nm<2, 4>, nm<3, 4>, nm<4, 8>, group<8>, group<16>,
                           group<32>, group<64>, group<128>, group_nm<1, 4, 16>, group_nm<2, 4, 16>,
                           group_nm<3, 4, 16>, group_nm<2, 4, 32>, bsr<1, 16>, bsr<4, 16>, bsr<8, 16>,
                           bsr<16, 16>, bsr<16, 32>, bsr<16, 64>, bsr<32, 32>>;
using quantizers =
    type_list<real<float>, real<f16>, real<bf16>, affine<2, 16>, affine<2, 32>, affine<2, 64>, affine<3, 16>,
              affine<3, 32>, affine<3, 64>, affine<4, 8>, affine<4, 16>, affine<4, 32>, affine<4, 64>,
              affine<4, 128>, affine<8, 16>, affine<8, 32>, affine<2, 16, two_level>,
              affine<3, 16, two_level>, affine<4, 16, two_level>, affine<5, 16, two_level>,
              affine<6, 16, two_level>, affine<7, 16, two_level>, affine<8, 16, two_level>, affine<5, 64>,
              affine<6, 64>, affine<7, 64>, affine<8, 64>, affine<4, 32, two_level>, affine<4, 16, bf16>,
              affine<4, 32, f16_offset>, affine<5, 32, f16_offset>, symmetric<4, 16>, symmetric<4, 32>,
              symmetric<4, 64>, symmetric<5, 32>, symmetric<8, 32>, codebook<nf4, 16>, codebook<nf4, 64>,
              codebook<fp4, 32>>;

using isas = default_isas;
template <class... I>
constexpr std::size_t count_of(isa_list<I...>) {
  return sizeof...(I);
}

/// The facts of a pair as constants: all that is instantiated for each of them.
struct pair_facts {
  const char* why_not;
  bool params_in_cells, supported[count_of(isas{})];
  int position_bits;
  decltype(format_facts::cells) cells = nullptr;
  decltype(format_facts::cells_per_row) cells_per_row = nullptr;
  decltype(format_facts::index_bytes) index_bytes = nullptr;
  decltype(format_facts::bytes) bytes = nullptr;
};

template <class P, class Q, class... I>
constexpr pair_facts facts_of(isa_list<I...>) {
  using l = layout<P, Q>;
  if constexpr (l::supported)
    return {l::why_not(),     l::params_in_cells, {kernel<I>::template supports<P, Q, float>...},
            l::position_bits, &l::cells,          &l::cells_per_row,
            &l::index_bytes,  &l::bytes};
  else
    return {l::why_not(), l::params_in_cells, {}, l::position_bits};
}

template <class... I>
std::vector<isa_facts> isas_of(isa_list<I...>, const bool* supported) {
  return {{I::label().c_str(), *supported++, I::available()}...};
}

/// Calls f.operator()<T>() for the type of the list with this name.
template <class F, class... T>
bool visit(type_list<T...>, const std::string& label, F&& f) {
  return ((T::label() == label.c_str() ? (f.template operator()<T>(), true) : false) || ...);
}

template <class... T>
std::string names_of(type_list<T...>, const std::string& family) {
  std::string out;
  for (const std::string& label : {std::string(T::label().c_str())...})
    if (label.substr(0, label.find('<')) == family) out += (out.empty() ? "" : ", ") + label;
  return out;
}

/// A name in its parts: "affine<4,16,two_level>" is affine with 4, 16 and two_level.
struct parsed_name {
  std::string family;
  std::vector<std::string> parts;
  bool closed = false;  ///< brackets are in order
  /// Part @p i as a number; -1 where it is none.
  int number(std::size_t i) const {
    int v = -1;
    if (i >= parts.size()) return v;
    const char* const end = parts[i].data() + parts[i].size();
    const auto [p, problem] = std::from_chars(parts[i].data(), end, v);
    return problem == std::errc() && p == end ? v : -1;
  }
};

parsed_name parse(const std::string& text) {
  parsed_name n;
  const std::size_t open = text.find('<');
  n.family = text.substr(0, open);
  n.closed = open == std::string::npos || (text.back() == '>' && text.size() > open + 2);
  if (open == std::string::npos || !n.closed) return n;
  for (std::size_t at = open + 1; at < text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size() - 1);
    n.parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return n;
}

bool multiple_of_8(int n) { return n > 0 && n % 8 == 0; }

/// A family of types: how it is spelled, and what is wrong with the numbers of a name (nullptr: nothing).
struct family {
  const char *name, *spelling;
  std::size_t fewest, most;  ///< arguments
  const char* (*wrong)(const parsed_name&);
};

const char* wrong_run(int run) {
  return multiple_of_8(run) ? nullptr : "the run must be a positive multiple of 8";
}
const char* wrong_scale(const parsed_name& n, std::size_t i, bool offset) {
  if (n.parts.size() <= i || n.parts[i] == "bf16" || n.parts[i] == "two_level") return nullptr;
  if (offset && n.parts[i] == "f16_offset") return nullptr;
  return offset ? "the scale is fp16 where none is named, or bf16, two_level or f16_offset"
                : "the scale is fp16 where none is named, or bf16 or two_level";
}
const char* wrong_bits(int bits) { return bits >= 2 && bits <= 8 ? nullptr : "bits must be 2..8"; }
const char* first(const char* a, const char* b, const char* c = nullptr) { return a ? a : b ? b : c; }

constexpr const char width_rule[] = "the width must be a positive multiple of 8";
const family pattern_families[] = {
    {"dense", "dense", 0, 0, [](const parsed_name&) -> const char* { return nullptr; }},
    {"bitmap", "bitmap", 0, 0, [](const parsed_name&) -> const char* { return nullptr; }},
    {"nm", "nm<N,M>", 2, 2,
     [](const parsed_name& n) -> const char* {
       const int keep = n.number(0), of = n.number(1);
       return keep >= 1 && keep < of && of <= 16
                  ? nullptr
                  : "at most N NONZERO of M, so 1 <= N < M <= 16; did you mean nm<M,N>?";
     }},
    {"group", "group<G>", 1, 1,
     [](const parsed_name& n) -> const char* { return multiple_of_8(n.number(0)) ? nullptr : width_rule; }},
    {"group_nm", "group_nm<N,M,G>", 3, 3,
     [](const parsed_name& n) -> const char* {
       const int keep = n.number(0), of = n.number(1);
       if (keep < 1 || keep >= of || of > 16) return "at most N NONZERO groups of M, so 1 <= N < M <= 16";
       return multiple_of_8(n.number(2)) ? nullptr : width_rule;
     }},
    {"bsr", "bsr<R,G>", 2, 2,
     [](const parsed_name& n) -> const char* {
       const int r = n.number(0);
       if (r != 1 && r != 2 && r != 4 && r != 8 && (r <= 0 || r % 16 != 0))
         return "rows must be 1, 2, 4, 8 or a multiple of 16";
       return multiple_of_8(n.number(1)) ? nullptr : width_rule;
     }},
};
const family quantizer_families[] = {
    {"real", "real<f32|f16|bf16>", 1, 1,
     [](const parsed_name& n) -> const char* {
       return n.parts[0] == "f32" || n.parts[0] == "f16" || n.parts[0] == "bf16" ? nullptr
                                                                                 : "it is f32, f16 or bf16";
     }},
    {"affine", "affine<bits,run[,scale]>", 2, 3,
     [](const parsed_name& n) -> const char* {
       return first(wrong_bits(n.number(0)), wrong_run(n.number(1)), wrong_scale(n, 2, true));
     }},
    {"symmetric", "symmetric<bits,run[,scale]>", 2, 3,
     [](const parsed_name& n) -> const char* {
       return first(wrong_bits(n.number(0)), wrong_run(n.number(1)), wrong_scale(n, 2, false));
     }},
    {"codebook", "codebook<nf4|fp4,run[,scale]>", 2, 3,
     [](const parsed_name& n) -> const char* {
       return first(n.parts[0] == "nf4" || n.parts[0] == "fp4" ? nullptr : "the table is nf4 or fp4",
                    wrong_run(n.number(1)), wrong_scale(n, 2, false));
     }},
};

/// What is wrong with a name that the list does not have.
template <std::size_t N, class List>
error name_error(const char* what, const family (&families)[N], List list, const std::string& text) {
  const parsed_name n = parse(text);
  std::string spellings;
  for (const family& f : families) {
    spellings += (spellings.empty() ? "" : ", ") + std::string(f.spelling);
    if (n.family != f.name) continue;
    if (!n.closed || n.parts.size() < f.fewest || n.parts.size() > f.most)
      return shape_error("explain: the ", what, " '", text, "' must be spelled ", f.spelling);
    if (const char* wrong = f.wrong(n); wrong != nullptr)
      return shape_error("explain: there is no ", what, " '", text, "': ", wrong);
    return shape_error("explain: the ", what, " '", text,
                       "' is a type of the library, but this program knows only ", names_of(list, n.family),
                       "; add it to examples/llama/catalogue.cpp");
  }
  return shape_error("explain: there is no ", what, " '", text, "'; there are ", spellings);
}

std::string without_spaces(const std::string& text) {
  std::string out;
  for (const char c : text)
    if (c != ' ') out += c;
  return out;
}

}  // namespace

result<format_facts> find_facts(const std::string& pattern_text, const std::string& quantizer_text) {
  const std::string pattern = without_spaces(pattern_text), quantizer = without_spaces(quantizer_text);
  format_facts f;
  pair_facts pair{};
  bool known = false;
  const bool listed = visit(patterns{}, pattern, [&]<class P>() {
    f.unit_rows = P::unit_rows, f.unit_cols = P::unit_cols;
    f.keep = P::keep, f.of = P::of, f.kind = P::kind;
    known = visit(quantizers{}, quantizer, [&]<class Q>() {
      static constexpr pair_facts constants = facts_of<P, Q>(isas{});
      pair = constants;
    });
  });
  if (!listed) return name_error("pattern", pattern_families, patterns{}, pattern);
  if (!known) return name_error("quantizer", quantizer_families, quantizers{}, quantizer);
  visit(quantizers{}, quantizer, [&]<class Q>() {
    f.bits = Q::bits, f.run = Q::run, f.scale_bits = Q::scale_bits, f.zero_bits = Q::zero_bits;
    f.row_scaled = Q::row_scaled;
  });
  f.pattern = pattern, f.quantizer = quantizer, f.why_not = pair.why_not;
  f.position_bits = pair.position_bits, f.params_in_cells = pair.params_in_cells;
  f.isas = isas_of(isas{}, pair.supported);
  f.cells = pair.cells, f.cells_per_row = pair.cells_per_row;
  f.index_bytes = pair.index_bytes, f.bytes = pair.bytes;
  return f;
}

namespace {

/// Surviving units of one row of blocks.
std::size_t live_units(const format_facts& f, std::size_t cols, double density) {
  const auto units = static_cast<double>(f.cells_per_row(cols));
  return static_cast<std::size_t>(std::llround(density * units));
}
std::size_t block_rows(const format_facts& f, std::size_t rows) {
  const auto r = static_cast<std::size_t>(f.unit_rows);
  return (rows + r - 1) / r;
}

}  // namespace

std::size_t format_facts::cells_at(std::size_t rows, std::size_t cols, double density) const {
  const std::size_t survivors =
      free_density()
          ? block_rows(*this, rows) * static_cast<std::size_t>(unit_rows) * live_units(*this, cols, density)
          : 0;
  return cells(rows, cols, survivors);
}

double format_facts::kept(std::size_t rows, std::size_t cols, double density) const {
  const auto unit = static_cast<std::size_t>(unit_cols);
  const std::size_t units = (cols + unit - 1) / unit;
  std::size_t alive = units, cut = units * unit - cols;  // columns that the last unit lacks, if it survives
  if (of > 0) {
    const auto n = static_cast<std::size_t>(keep), m = static_cast<std::size_t>(of), rest = units % m;
    alive = units / m * n + std::min(rest, n);
    if (rest == 0 || rest > n) cut = 0;
  } else if (free_density()) {
    alive = live_units(*this, cols, density);
    if (alive < units) cut = 0;
  }
  return static_cast<double>(rows) * static_cast<double>(alive * unit - cut);
}

double format_facts::payload(stream s, std::size_t rows, std::size_t cols, double density) const {
  const double weights = kept(rows, cols, density),
               all = static_cast<double>(rows) * static_cast<double>(cols);
  const double blocks = static_cast<double>(rows) / unit_rows;
  const double runs = run == 0 ? 0 : (params_in_cells ? weights : all) / run;
  const bool listed = kind == survivors::listed, masked = kind == survivors::masked;
  switch (s) {
    case stream::begin:
      return !free_density() ? 0 : 4 * (listed ? blocks : static_cast<double>(rows) / lanes);
    case stream::index:
      if (listed) return weights / (unit_rows * unit_cols) * index_bytes(cols);
      if (masked) return blocks * static_cast<double>(cols) / unit_cols / 8;
      return kind == survivors::positions ? weights * position_bits / 8 : 0;
    case stream::row_scale:
      return row_scaled ? 2.0 * static_cast<double>(rows) : 0;
    case stream::scale:
      return runs * scale_bits / 8;
    case stream::zero:
      return runs * zero_bits / 8;
    default:
      // Planes hold the bits of a code in turn: 1, 2, 4, 8, .. wide, see quant/bits.hpp.
      const int i = static_cast<int>(s) - static_cast<int>(stream::codes);
      return i < plane_count(bits) ? weights * plane_width(bits, i) / 8 : 0;
  }
}

std::vector<std::string> closest_formats(const std::string& pattern, const std::string& quantizer,
                                         std::size_t count) {
  // 0: the same, 1: one family, 2: others.
  const auto distance = [](const std::string& a, const std::string& b) {
    return a == b ? 0 : parse(a).family == parse(b).family ? 1 : 2;
  };
  struct candidate {
    int far, bits;
    std::string name;
  };
  std::vector<candidate> found;
  const int bits = parse(quantizer).number(0);
  for (const format_ops* o : all_formats())
    found.push_back({3 * distance(pattern, o->pattern) + distance(quantizer, o->quantizer),
                     std::abs(parse(o->quantizer).number(0) - bits), o->pattern + " " + o->quantizer});
  std::stable_sort(found.begin(), found.end(), [](const candidate& a, const candidate& b) {
    return a.far != b.far ? a.far < b.far : a.bits < b.bits;
  });
  std::vector<std::string> out;
  for (const candidate& c : found)
    if (out.size() < count) out.push_back(c.name);
  return out;
}

}  // namespace llama
