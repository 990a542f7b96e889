// SPDX-License-Identifier: Apache-2.0
// expect: quern::bsr: Rows must be 1, 2, 4, 8 or a multiple of 16
#include <quern/pattern/bsr.hpp>

quern::bsr<3, 16> p;
