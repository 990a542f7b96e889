// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdio>

double mixed_native();
double mixed_generic();

// Codes are equal for both, and sums of at most 128 products in single precision (FMA or not) differ by less
// than 128 eps of sum |w||x|, which is below 64 * 128 * 8 for each of the three products and their twelve vectors.
int main() {
  const double native = mixed_native(), generic = mixed_generic();
  std::printf("for this machine %.9g, for any %.9g\n", native, generic);
  const double bound = 3.0 * 12 * 64 * 128 * 8 * 128 * 1.2e-7;
  return std::fabs(native - generic) <= bound && native != 0 ? 0 : 1;
}
