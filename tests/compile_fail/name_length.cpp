// SPDX-License-Identifier: Apache-2.0
// expect: quern::matrix: the name of a pattern or quantizer has more than 63 characters
#include <quern/format/layout.hpp>
#include <quern/pattern/dense.hpp>
#include <quern/quant/codebook.hpp>

struct verbose : quern::nf4 {
  static constexpr const char* text = "a_table_that_was_fitted_to_the_weights_of_one_model_only";
};
constexpr bool b = quern::is_supported<quern::dense, quern::codebook<verbose, 32>>();
