// SPDX-License-Identifier: Apache-2.0
#define QUERN_MIXED_NAME mixed_native
#include "mixed.inl"
