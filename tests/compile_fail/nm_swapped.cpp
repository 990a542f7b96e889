// SPDX-License-Identifier: Apache-2.0
// expect: quern::nm<N, M>: at most N NONZERO of M, so 1 <= N < M <= 16; did you mean nm<M, N>?
#include <quern/pattern/nm.hpp>

quern::nm<4, 2> p;
