// SPDX-License-Identifier: Apache-2.0
#pragma once
// Inference on the CPU: patterns, quantizers, packed matrices, multiply, files. No Eigen or CUDA.
// auto w = quern::pack<quern::group<16>, quern::affine<4, 16>>(dense, mask);
// quern::multiply(w, x, y);

#include <quern/core/executor.hpp>
#include <quern/format/format_list.hpp>
#include <quern/format/pack.hpp>
#include <quern/format/unpack.hpp>
#include <quern/format/validate.hpp>
#include <quern/io/checkpoint.hpp>
#include <quern/io/gguf.hpp>
#include <quern/io/gguf_matrix.hpp>
#include <quern/kernel/cpu/multiply.hpp>
#include <quern/pattern/bitmap.hpp>
#include <quern/pattern/bsr.hpp>
#include <quern/pattern/dense.hpp>
#include <quern/pattern/group.hpp>
#include <quern/pattern/group_nm.hpp>
#include <quern/pattern/mask.hpp>
#include <quern/pattern/nm.hpp>
#include <quern/quant/affine.hpp>
#include <quern/quant/codebook.hpp>
#include <quern/quant/real.hpp>
#include <quern/quant/symmetric.hpp>
