// SPDX-License-Identifier: Apache-2.0
// expect: quern::real: T must be float, quern::f16 or quern::bf16
#include <quern/quant/real.hpp>

quern::real<double> q;
