// SPDX-License-Identifier: Apache-2.0
// expect: quern::symmetric: Run must be a positive multiple of 8
#include <quern/quant/symmetric.hpp>

quern::symmetric<4, 20> q;
