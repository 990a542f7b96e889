// SPDX-License-Identifier: Apache-2.0
// expect: quern::group: Width must be a positive multiple of 8
#include <quern/pattern/group.hpp>

quern::group<12> p;
