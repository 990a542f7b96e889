// SPDX-License-Identifier: Apache-2.0
#include "sweep.hpp"

using namespace quern;
using namespace quern_test;

TEST_CASE_TEMPLATE("scalar multiply agrees with a double loop", F, QUERN_TEST_FORMATS) {
  sweep<isa_list<isa::scalar>, typename F::pattern, typename F::quantizer>();
}

TEST_CASE("multiply by hand") {
  // W = [1 0 2; 0 3 0], x = (1, 10, 100)
  const float w[] = {1, 0, 2, 0, 3, 0}, x[] = {1, 10, 100};
  float y[2] = {};
  const auto m = pack<bitmap, real<float>>(span2<const float>(w, 2, 3));
  multiply(m, x, y);
  CHECK(y[0] == 201);
  CHECK(y[1] == 30);
}

TEST_CASE("multiply refuses lengths that do not match") {
  const float w[6] = {}, x[4] = {};
  float y[2] = {};
  const auto m = pack<dense, real<float>>(span2<const float>(w, 2, 3));
  CHECK_THROWS_WITH_AS(multiply(m, x, y), "quern::multiply: x must have W.cols = 3 columns, got 4",
                       shape_error);
}
