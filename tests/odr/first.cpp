// SPDX-License-Identifier: Apache-2.0
// Every header of the library in two translation units: they must link.
#include <all_headers.hpp>

float second(quern::span2<const float> w);

int main() {
  const float w[] = {1, 2, 3, 4};
  return second({w, 2, 2}) == 10.f ? 0 : 1;
}
