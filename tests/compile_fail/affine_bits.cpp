// SPDX-License-Identifier: Apache-2.0
// expect: quern::affine: Bits must be 2..8
#include <quern/quant/affine.hpp>

quern::affine<9, 16> q;
