// SPDX-License-Identifier: Apache-2.0
#pragma once
// llama::fingerprint run;
// run.add("steps", o.steps).add("rate", o.rate).add("weights", llama::hash_of(m));
// out.metadata("train.run", run.text());       // "steps 200 rate 0.001 weights 0123456789abcdef"

#include <cstdio>
#include <quern/train/weight_optimizer.hpp>
#include <sstream>
#include <string>
#include <type_traits>

namespace llama {

/// What tells two such sentences apart first: "seed 5, not 9".
inline std::string difference(const std::string& found, const std::string& wanted) {
  std::istringstream a(found), b(wanted);
  std::string name, x, y;
  do {
    name = x;
    x.clear(), y.clear();
    a >> x, b >> y;
  } while (x == y && !x.empty());
  return name + ' ' + (x.empty() ? "nothing" : x) + ", not " + (y.empty() ? "nothing" : y);
}

/// The sentence that tells runs apart: all that a result depends on by name, numbers with every digit that matters,
/// and a hash of what is too long to be said. A checkpoint of a run with another sentence is refused.
class fingerprint {
 public:
  fingerprint& add(const char* name, const std::string& text) {
    if (!text_.empty()) text_ += ' ';
    text_.append(name).append(1, ' ').append(text);
    return *this;
  }
  template <class T>
  requires(std::is_arithmetic_v<T> || std::is_enum_v<T>) fingerprint& add(const char* name, T v) {
    if constexpr (std::is_floating_point_v<T>) {
      char digits[40];
      std::snprintf(digits, sizeof digits, "%.*g", sizeof(T) == 4 ? 9 : 17, static_cast<double>(v));
      return add(name, std::string(digits));
    } else if constexpr (std::is_enum_v<T>) {
      return add(name, static_cast<int>(v));
    } else {
      return add(name, std::to_string(v));
    }
  }
  fingerprint& add(const char* name, const quern::adamw_options& o) {
    fingerprint of;
    of.add("beta1", o.beta1).add("beta2", o.beta2).add("epsilon", o.epsilon).add("decay", o.weight_decay);
    return add(name, of.text());
  }
  fingerprint& add(const char* name, const quern::training_rates& r) {
    fingerprint of;
    of.add("weight", r.weight).add("scale", r.scale).add("zero", r.zero).add("row", r.row_scale);
    return add(name, of.text());
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace llama
