// SPDX-License-Identifier: Apache-2.0
// What a user of the library compiles; built as found by find_package, by add_subdirectory, and by a bare -I.
#include <quern/core/span2.hpp>

int main() {
  const float w[] = {1, 2, 3, 4};
  return quern::span2<const float>(w, 2, 2)(1, 1) == 4.f ? 0 : 1;
}
