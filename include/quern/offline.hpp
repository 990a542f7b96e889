// SPDX-License-Identifier: Apache-2.0
#pragma once
// Making weights, with Eigen: calibration, pruning, quantization, training, search, metrics. An engine that only
// multiplies includes quern/quern.hpp.
// quern::hessian h(cols);  h.add(x);                                            // [n x cols] inputs of the layer
// const auto inverse = quern::invert(h).value();
// const auto layer = quern::compress_layer<quern::group<16>, quern::affine<4, 16>>(w, inverse).value();
// const auto packed = quern::pack<quern::group<16>>(layer.codes, layer.mask);

#include <quern/calib/cross_moments.hpp>
#include <quern/calib/hessian.hpp>
#include <quern/calib/layer_error.hpp>
#include <quern/compress/dense_targets.hpp>
#include <quern/compress/layer.hpp>
#include <quern/compress/masked_least_squares.hpp>
#include <quern/compress/obq.hpp>
#include <quern/compress/obs.hpp>
#include <quern/compress/order.hpp>
#include <quern/compress/score.hpp>
#include <quern/compress/select.hpp>
#include <quern/dense/cholesky.hpp>
#include <quern/dense/matrix.hpp>
#include <quern/dense/softmax.hpp>
#include <quern/metric/cross_entropy.hpp>
#include <quern/metric/kl.hpp>
#include <quern/metric/perplexity.hpp>
#include <quern/metric/top_logits.hpp>
#include <quern/quern.hpp>
#include <quern/search/baselines.hpp>
#include <quern/search/checkpoint.hpp>
#include <quern/search/level_db.hpp>
#include <quern/search/share.hpp>
#include <quern/train/adamw.hpp>
#include <quern/train/bqpo.hpp>
#include <quern/train/distill.hpp>
#include <quern/train/low_rank.hpp>
#include <quern/train/mask_update.hpp>
#include <quern/train/masked_decay.hpp>
#include <quern/train/scale_tune.hpp>
#include <quern/train/weight_scale.hpp>
