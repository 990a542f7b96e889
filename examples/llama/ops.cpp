// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <llama/aligned.hpp>
#include <llama/ops.hpp>
#include <quern/core/error.hpp>
#include <quern/dense/matrix.hpp>

namespace llama {

using quern::eigen_array;
using quern::eigen_map;
using quern::eigen_matrix;

template <class T>
void product(span2<const T> x, span2<const T> w, span2<T> y) {
  eigen_map(y).noalias() = eigen_map(x) * eigen_map(w).transpose();
}

template <class T>
void product_backward_input(span2<const T> dy, span2<const T> w, span2<T> dx) {
  eigen_map(dx).noalias() += eigen_map(dy) * eigen_map(w);
}

template <class T>
void product_backward_weight(span2<const T> dy, span2<const T> x, span2<T> dw) {
  eigen_map(dw).noalias() += eigen_map(dy).transpose() * eigen_map(x);
}

template <class T>
void add(span2<T> a, span2<const T> b) {
  eigen_map(a) += eigen_map(b);
}

template <class T>
void rmsnorm(span2<const T> x, std::span<const T> gain, T epsilon, span2<T> y, std::span<T> inverse_rms) {
  const auto g = eigen_array(gain);
  for (std::size_t r = 0; r < x.rows(); ++r) {
    const auto in = eigen_array(x.row(r), x.cols());
    const T inverse = T{1} / std::sqrt(in.square().mean() + epsilon);
    eigen_array(y.row(r), y.cols()) = in * inverse * g;
    if (!inverse_rms.empty()) inverse_rms[r] = inverse;
  }
}

template <class T>
void rmsnorm_backward(span2<const T> x, std::span<const T> gain, std::span<const T> inverse_rms,
                      span2<const T> dy, span2<T> dx, std::span<T> dgain) {
  const auto g = eigen_array(gain);
  auto dg = eigen_array(dgain);
  for (std::size_t r = 0; r < x.rows(); ++r) {
    const auto in = eigen_array(x.row(r), x.cols());
    const auto d = eigen_array(dy.row(r), dy.cols());
    const T inverse = inverse_rms[r];
    if (!dgain.empty()) dg += d * in * inverse;
    // With u = x * inverse: du/dx = inverse * (I - u u^T / n).
    const T along = (d * g * in).mean() * inverse * inverse;
    eigen_array(dx.row(r), dx.cols()) += inverse * (d * g - in * along);
  }
}

template <class T>
rope<T>::rope(std::size_t context, std::size_t head_dim, double base)
    : head_dim_(head_dim), cos_(context * (head_dim / 2)), sin_(cos_.size()) {
  const std::size_t pairs = head_dim / 2;
  for (std::size_t i = 0; i < pairs; ++i) {
    const double frequency = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    for (std::size_t p = 0; p < context; ++p) {
      cos_[p * pairs + i] = static_cast<T>(std::cos(static_cast<double>(p) * frequency));
      sin_[p * pairs + i] = static_cast<T>(std::sin(static_cast<double>(p) * frequency));
    }
  }
}

template <class T>
void rope<T>::turn(span2<T> x, std::size_t first, T direction) const {
  const std::size_t pairs = head_dim_ / 2, heads = x.cols() / head_dim_;
  for (std::size_t r = 0; r < x.rows(); ++r) {
    const T* const c = cos_.data() + (first + r) * pairs;
    const T* const s = sin_.data() + (first + r) * pairs;
    for (std::size_t h = 0; h < heads; ++h) {
      T* const head = x.row(r) + h * head_dim_;
      for (std::size_t i = 0; i < pairs; ++i) {
        const T a = head[2 * i], b = head[2 * i + 1], sine = direction * s[i];
        head[2 * i] = a * c[i] - b * sine;
        head[2 * i + 1] = a * sine + b * c[i];
      }
    }
  }
}

namespace {

/// Rows [first, first + rows) and the columns of head h.
template <class T>
span2<T> head_of(span2<T> x, std::size_t h, std::size_t dim, std::size_t first, std::size_t rows) {
  return {x.row(first) + h * dim, rows, dim, x.stride()};
}

/// Lanes that the attention of one query works with: a cache line of floats.
constexpr std::size_t query_lanes = 16;
template <class T>
struct lanes_of {
  typedef T type __attribute__((vector_size(query_lanes * sizeof(T))));
};

/// y += weight of each key times its row of v, for Count * query_lanes columns from `first` on, kept in registers.
template <std::size_t Count, class T>
void weighted_rows(const T* weight, span2<const T> v, std::size_t first, T factor, T* y) {
  using vector = typename lanes_of<T>::type;
  vector sum[Count] = {};
  for (std::size_t k = 0; k < v.rows(); ++k)
    for (std::size_t i = 0; i < Count; ++i) {
      vector row;
      std::memcpy(&row, v.row(k) + first + i * query_lanes, sizeof row);
      sum[i] += weight[k] * row;
    }
  for (std::size_t i = 0; i < Count; ++i) {
    sum[i] *= factor;
    std::memcpy(y + first + i * query_lanes, &sum[i], sizeof sum[i]);
  }
}

/// Attention of one query q [dim] over all keys and values [keys x dim], dim a multiple of query_lanes. Products of a
/// matrix with one vector of 64 are half overhead in Eigen: 58 cycles a key and head there, 20 here (dim 64).
template <class T>
void attend(const T* q, span2<const T> keys, span2<const T> values, T scale, T* out) {
  using vector = typename lanes_of<T>::type;
  const std::size_t dim = keys.cols();
  Eigen::Array<T, Eigen::Dynamic, 1> p(static_cast<Eigen::Index>(keys.rows()));
  for (std::size_t k = 0; k < keys.rows(); ++k) {
    vector sum = {};
    for (std::size_t c = 0; c < dim; c += query_lanes) {
      vector a, b;
      std::memcpy(&a, q + c, sizeof a);
      std::memcpy(&b, keys.row(k) + c, sizeof b);
      sum += a * b;
    }
    T products[query_lanes];
    std::memcpy(products, &sum, sizeof products);
    p[static_cast<Eigen::Index>(k)] =
        scale * Eigen::Map<const Eigen::Array<T, static_cast<int>(query_lanes), 1>>(products).sum();
  }
  p = (p - p.maxCoeff()).exp();
  const T inverse = T{1} / p.sum();
  std::size_t c = 0;
  for (; c + 4 * query_lanes <= dim; c += 4 * query_lanes)
    weighted_rows<4>(p.data(), values, c, inverse, out);
  for (; c < dim; c += query_lanes) weighted_rows<1>(p.data(), values, c, inverse, out);
}

}  // namespace

template <class T>
void attention_block(span2<const T> q, span2<const T> k, span2<const T> v, attention_shape shape,
                     std::size_t head, std::size_t first, span2<T> out, span2<T> log_sums) {
  const std::size_t rows = q.rows() - first < attention_rows ? q.rows() - first : attention_rows;
  const std::size_t past = k.rows() - q.rows(), keys = past + first + rows;
  const std::size_t kv = head / (shape.heads / shape.kv_heads);
  const T scale = T{1} / std::sqrt(static_cast<T>(shape.head_dim));
  if (rows == 1 && log_sums.rows() == 0 && shape.head_dim % query_lanes == 0)
    return attend(q.row(first) + head * shape.head_dim, head_of(k, kv, shape.head_dim, 0, keys),
                  head_of(v, kv, shape.head_dim, 0, keys), scale, out.row(first) + head * shape.head_dim);
  const auto queries = eigen_map(head_of(q, head, shape.head_dim, first, rows));
  // The scores of one thread, kept: fresh pages for every head and call cost as much as the softmax.
  thread_local aligned<T> scores;
  if (scores.size() < rows * keys) scores.resize(rows * keys);
  auto p = eigen_map(span2<T>(scores.data(), rows, keys));
  p.noalias() = (queries * scale) * eigen_map(head_of(k, kv, shape.head_dim, 0, keys)).transpose();
  Eigen::Array<T, Eigen::Dynamic, 1> inverse(static_cast<Eigen::Index>(rows));
  for (std::size_t r = 0; r < rows; ++r) {
    const std::size_t seen = past + first + r + 1;
    auto row = eigen_array(scores.data() + r * keys, seen);
    const T top = row.maxCoeff();
    row = (row - top).exp();
    const T sum = row.sum();
    inverse[static_cast<Eigen::Index>(r)] = T{1} / sum;
    eigen_array(scores.data() + r * keys + seen, keys - seen).setZero();
    if (log_sums.rows() != 0) log_sums(head, first + r) = top + std::log(sum);
  }
  auto o = eigen_map(head_of(out, head, shape.head_dim, first, rows));
  o.noalias() = p * eigen_map(head_of(v, kv, shape.head_dim, 0, keys));
  o.array().colwise() *= inverse;
}

template <class T>
void attention(span2<const T> q, span2<const T> k, span2<const T> v, attention_shape shape, span2<T> out,
               span2<T> log_sums) {
  for (std::size_t h = 0; h < shape.heads; ++h)
    for (std::size_t first = 0; first < q.rows(); first += attention_rows)
      attention_block(q, k, v, shape, h, first, out, log_sums);
}

template <class T>
void attention_backward(span2<const T> q, span2<const T> k, span2<const T> v, attention_shape shape,
                        span2<const T> out, span2<const T> log_sums, span2<const T> dout, span2<T> dq,
                        span2<T> dk, span2<T> dv) {
  const std::size_t n = q.rows(), past = k.rows() - n, dim = shape.head_dim;
  const T scale = T{1} / std::sqrt(static_cast<T>(dim));
  eigen_matrix<T> p, dp;
  for (std::size_t h = 0; h < shape.heads; ++h) {
    const std::size_t kv = h / (shape.heads / shape.kv_heads);
    for (std::size_t first = 0; first < n; first += attention_rows) {
      const std::size_t rows = n - first < attention_rows ? n - first : attention_rows;
      const std::size_t keys = past + first + rows;
      const auto queries = eigen_map(head_of(q, h, dim, first, rows));
      const auto ks = eigen_map(head_of(k, kv, dim, 0, keys)), vs = eigen_map(head_of(v, kv, dim, 0, keys));
      const auto d = eigen_map(head_of(dout, h, dim, first, rows));
      const auto o = eigen_map(head_of(out, h, dim, first, rows));
      p.noalias() = (queries * scale) * ks.transpose();
      dp.noalias() = d * vs.transpose();
      for (std::size_t r = 0; r < rows; ++r) {
        const std::size_t seen = past + first + r + 1;
        const auto index = static_cast<Eigen::Index>(r);
        auto row = eigen_array(p.data() + r * keys, seen), drow = eigen_array(dp.data() + r * keys, seen);
        row = (row - log_sums(h, first + r)).exp();
        // d(softmax): p * (dp - sum(p dp)), and sum(p dp) = dout . out.
        const T along = d.row(index).dot(o.row(index));
        drow = row * (drow - along) * scale;
        eigen_array(p.data() + r * keys + seen, keys - seen).setZero();
        eigen_array(dp.data() + r * keys + seen, keys - seen).setZero();
      }
      eigen_map(head_of(dv, kv, dim, 0, keys)).noalias() += p.transpose() * d;
      eigen_map(head_of(dk, kv, dim, 0, keys)).noalias() += dp.transpose() * queries;
      eigen_map(head_of(dq, h, dim, first, rows)).noalias() += dp * ks;
    }
  }
}

template <class T>
void swiglu(span2<const T> gate, span2<const T> up, span2<T> h) {
  for (std::size_t r = 0; r < gate.rows(); ++r) {
    const auto g = eigen_array(gate.row(r), gate.cols()), u = eigen_array(up.row(r), up.cols());
    eigen_array(h.row(r), h.cols()) = g / ((-g).exp() + T{1}) * u;
  }
}

template <class T>
void swiglu_backward(span2<T> gate, span2<T> up, span2<const T> dh) {
  // In pieces that stay in registers: s = sigmoid(g); d silu = s (1 + g (1 - s)).
  Eigen::Array<T, 64, 1> s, g;
  const auto piece = [&](T* gs, T* us, const T* ds, Eigen::Index n) {
    auto ga = eigen_array(gs, static_cast<std::size_t>(n)), ua = eigen_array(us, static_cast<std::size_t>(n));
    const auto da = eigen_array(ds, static_cast<std::size_t>(n));
    g.head(n) = ga;
    s.head(n) = ((-ga).exp() + T{1}).inverse();
    ga = da * ua * s.head(n) * (T{1} + g.head(n) * (T{1} - s.head(n)));
    ua = da * g.head(n) * s.head(n);
  };
  for (std::size_t r = 0; r < gate.rows(); ++r)
    for (std::size_t c = 0; c < gate.cols(); c += 64)
      piece(gate.row(r) + c, up.row(r) + c, dh.row(r) + c,
            static_cast<Eigen::Index>(gate.cols() - c < 64 ? gate.cols() - c : 64));
}

#define LLAMA_INSTANTIATE(T)                                                                                \
  template void product<T>(span2<const T>, span2<const T>, span2<T>);                                       \
  template void product_backward_input<T>(span2<const T>, span2<const T>, span2<T>);                        \
  template void product_backward_weight<T>(span2<const T>, span2<const T>, span2<T>);                       \
  template void add<T>(span2<T>, span2<const T>);                                                           \
  template void rmsnorm<T>(span2<const T>, std::span<const T>, T, span2<T>, std::span<T>);                  \
  template void rmsnorm_backward<T>(span2<const T>, std::span<const T>, std::span<const T>, span2<const T>, \
                                    span2<T>, std::span<T>);                                                \
  template class rope<T>;                                                                                   \
  template void attention_block<T>(span2<const T>, span2<const T>, span2<const T>, attention_shape,         \
                                   std::size_t, std::size_t, span2<T>, span2<T>);                           \
  template void attention<T>(span2<const T>, span2<const T>, span2<const T>, attention_shape, span2<T>,     \
                             span2<T>);                                                                     \
  template void attention_backward<T>(span2<const T>, span2<const T>, span2<const T>, attention_shape,      \
                                      span2<const T>, span2<const T>, span2<const T>, span2<T>, span2<T>,   \
                                      span2<T>);                                                            \
  template void swiglu<T>(span2<const T>, span2<const T>, span2<T>);                                        \
  template void swiglu_backward<T>(span2<T>, span2<T>, span2<const T>)

LLAMA_INSTANTIATE(float);
LLAMA_INSTANTIATE(double);
#undef LLAMA_INSTANTIATE

}  // namespace llama
