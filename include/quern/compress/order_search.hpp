// SPDX-License-Identifier: Apache-2.0
#pragma once
// What order.hpp is made of:
// quern::order_search search(matrices, quern::shape_of<quern::bsr<16, 32>>(), 0.5);
// search.start(search.grown());
// double kept = search.improve(40);   // of search.total(), in the order search.order()

#include <quern/compress/select.hpp>
#include <span>
#include <utility>
#include <vector>

namespace quern::inline v0 {

/// What of a matrix gets a new order.
enum class axis { rows, cols };

/// The scores of one matrix whose rows or columns (the items) are to be ordered. Several matrices may share the
/// items: the inputs of one are the outputs of another.
struct ordered_scores {
  /// [items x parts] not negative, larger is worth more; the worth of a unit is the sum over its items. Of rows: one
  /// part for every unit of `unit_cols` columns. Of columns: one for every block of `unit_rows` rows.
  span2<const float> scores;
  axis items = axis::rows;
};

inline namespace QUERN_BUILD {

/// One search for an order: the sums of clusters of neighbouring items, and which of them survive.
///
/// Choosing the survivors of given clusters is select_units' task; given the survivors, an item is worth in each
/// cluster what of its scores survives there. The two are done in turn, as k-means does: neither step loses score.
class order_search {
 public:
  order_search(std::span<const ordered_scores> matrices, const unit_shape& p, double density)
      : items_(matrices[0].scores.rows()), order_(items_), worth_(items_) {
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    for (const ordered_scores& m : matrices) {
      const bool rows = m.items == axis::rows;
      const std::size_t size = rows ? p.rows : p.cols, clusters = (items_ + size - 1) / size,
                        units = rows ? m.scores.cols() : clusters;
      // The order of items that share neither units nor windows is of no consequence.
      term t{m.scores, size, size > 1 || (!rows && p.of > 0), rows, units, units, p.keep, {}, {}};
      if (p.of > 0)
        t.window = p.of;
      else
        t.keep = p.dense ? units : keep_quota(density, 0, units);
      t.sums.resize(at(clusters), at(m.scores.cols()));
      t.alive.resizeLike(t.sums);
      for (std::size_t i = 0; i < items_; ++i)
        worth_[i] += eigen_map(m.scores).row(at(i)).cast<double>().sum();
      if (t.matters) step_ = step_ == 0 ? size : std::min(step_, size);
      if (t.matters) widest_ = std::max(widest_, size);
      terms_.push_back(std::move(t));
    }
    for (const double w : worth_) total_ += w;
  }
  double total() const { return total_; }
  const std::vector<std::size_t>& order() const { return order_; }
  void start(std::vector<std::size_t> order) { order_ = std::move(order); }

  /// Sums up the clusters of the present order and chooses what survives. @returns its score
  double choose() {
    double kept = 0;
    for (term& t : terms_) {
      t.sums.setZero();
      for (std::size_t i = 0; i < items_; ++i)
        t.sums.row(at(i / t.size)) += eigen_map(t.scores).row(at(order_[i])).template cast<double>();
      t.alive.setZero();
      const std::size_t lines = static_cast<std::size_t>(t.by_cluster ? t.sums.rows() : t.sums.cols());
      std::vector<std::size_t> best;
      for (std::size_t line = 0; line < lines; ++line)
        for (std::size_t left = 0; left < t.units; left += t.window) {
          const auto place = [&](std::size_t u) {
            return t.by_cluster ? std::pair{at(line), at(left + u)} : std::pair{at(left + u), at(line)};
          };
          best.resize(std::min(t.window, t.units - left));
          std::iota(best.begin(), best.end(), std::size_t{0});
          const std::size_t keep = std::min(t.keep, best.size());
          const auto better = [&](std::size_t a, std::size_t b) {
            const double x = t.sums(place(a).first, place(a).second),
                         y = t.sums(place(b).first, place(b).second);
            return x > y || (x == y && a < b);
          };
          std::nth_element(best.begin(), best.begin() + static_cast<std::ptrdiff_t>(keep), best.end(),
                           better);
          for (std::size_t n = 0; n < keep; ++n) t.alive(place(best[n]).first, place(best[n]).second) = 1;
        }
      kept += t.sums.cwiseProduct(t.alive.template cast<double>()).sum();
    }
    return kept;
  }

  /// Exchanges items between pairs of clusters until no exchange helps, or @p sweeps times. @returns the score that
  /// survives
  double improve(std::size_t sweeps) {
    double kept = choose();
    if (step_ == 0) return kept;
    const std::size_t clusters = (items_ + step_ - 1) / step_;
    for (bool moved = true; moved && sweeps > 0; --sweeps) {
      moved = false;
      for (std::size_t a = 0; a < clusters; ++a) {
        bool changed = false;
        for (std::size_t b = a + 1; b < clusters; ++b) changed = exchange(a, b) || changed;
        if (changed) kept = choose();
        moved = moved || changed;
      }
    }
    return kept;
  }

  /// Clusters of like items: the heaviest that is left, then the items that fit best to what would survive of those
  /// that are there, as many at a time.
  std::vector<std::size_t> grown() const {
    std::vector<std::size_t> left = heaviest_first(), out;
    std::vector<std::pair<double, std::size_t>> fit;
    Eigen::VectorXd sum;
    while (!left.empty()) {
      const std::size_t first = out.size(), end = std::min(items_, first + std::max<std::size_t>(widest_, 1));
      out.push_back(left.front());
      left.erase(left.begin());
      while (out.size() < end) {
        fit.resize(left.size());
        for (std::size_t n = 0; n < left.size(); ++n) fit[n] = {0, n};
        for (const term& t : terms_) {
          const auto scores = eigen_map(t.scores);
          sum = Eigen::VectorXd::Zero(scores.cols());
          for (std::size_t i = first; i < out.size(); ++i)
            sum += scores.row(at(out[i])).transpose().template cast<double>();
          const Eigen::VectorXf alive = heaviest_parts(sum, t);
          for (auto& [value_of, n] : fit)
            value_of += static_cast<double>(scores.row(at(left[n])).dot(alive.transpose()));
        }
        for (auto& [value_of, n] : fit) value_of /= worth_[left[n]] > 0 ? -worth_[left[n]] : -1;
        const std::size_t join = std::min(out.size() - first, end - out.size());
        std::partial_sort(fit.begin(), fit.begin() + static_cast<std::ptrdiff_t>(join), fit.end());
        for (std::size_t n = 0; n < join; ++n) {
          out.push_back(left[fit[n].second]);
          left[fit[n].second] = items_;
        }
        std::erase(left, items_);
      }
    }
    return out;
  }

  /// All items, the heaviest first; of equal ones the first.
  std::vector<std::size_t> heaviest_first() const {
    std::vector<std::size_t> out(items_);
    std::iota(out.begin(), out.end(), std::size_t{0});
    std::stable_sort(out.begin(), out.end(),
                     [&](std::size_t a, std::size_t b) { return worth_[a] > worth_[b]; });
    return out;
  }

 private:
  struct term {
    span2<const float> scores;  // [items x parts]
    std::size_t size;           // items of a cluster
    bool matters;               // whether the order of the items changes anything
    bool by_cluster;            // each cluster has its quota of parts; else each part its quota of clusters
    std::size_t units, window, keep;  // `keep` of every `window` of `units` parts or clusters survive
    eigen_matrix<double> sums;        // [clusters x parts]
    eigen_matrix<float> alive;        // [clusters x parts] 1 or 0
  };
  static Eigen::Index at(std::size_t i) { return static_cast<Eigen::Index>(i); }

  /// The parts that a cluster with these sums keeps if it keeps its share: 1 or 0.
  static Eigen::VectorXf heaviest_parts(const Eigen::VectorXd& sum, const term& t) {
    const std::size_t parts = static_cast<std::size_t>(sum.size());
    const std::size_t keep = (t.keep * parts + t.window - 1) / std::max<std::size_t>(t.window, 1);
    std::vector<std::size_t> best(parts);
    std::iota(best.begin(), best.end(), std::size_t{0});
    std::stable_sort(best.begin(), best.end(),
                     [&](std::size_t a, std::size_t b) { return sum(at(a)) > sum(at(b)); });
    Eigen::VectorXf alive = Eigen::VectorXf::Zero(sum.size());
    for (std::size_t n = 0; n < std::min(keep, parts); ++n) alive(at(best[n])) = 1;
    return alive;
  }

  /// The best exchange of items between two clusters while survivors stay as they are: whoever gains most by leaving
  /// goes first, in both. @returns whether anything moved
  bool exchange(std::size_t a, std::size_t b) {
    const std::size_t tops[] = {a * step_, b * step_};
    std::vector<std::pair<double, std::size_t>> gain[2];
    for (const std::size_t side : {0u, 1u})
      for (std::size_t i = tops[side]; i < std::min(items_, tops[side] + step_); ++i)
        gain[side].push_back({0, i});
    for (const term& t : terms_) {
      if (!t.matters || tops[0] / t.size == tops[1] / t.size) continue;
      const Eigen::RowVectorXf better = t.alive.row(at(tops[1] / t.size)) - t.alive.row(at(tops[0] / t.size));
      const auto scores = eigen_map(t.scores);
      for (auto& [g, i] : gain[0]) g += static_cast<double>(scores.row(at(order_[i])).dot(better));
      for (auto& [g, i] : gain[1]) g -= static_cast<double>(scores.row(at(order_[i])).dot(better));
    }
    for (auto& side : gain)
      std::stable_sort(side.begin(), side.end(),
                       [](const auto& x, const auto& y) { return x.first > y.first; });
    // Less than the rounding of sums of floats is no gain.
    const double least = 1e-5 * total_ / static_cast<double>(items_);
    bool moved = false;
    for (std::size_t n = 0; n < std::min(gain[0].size(), gain[1].size()); ++n) {
      if (!(gain[0][n].first + gain[1][n].first > least)) break;
      std::swap(order_[gain[0][n].second], order_[gain[1][n].second]);
      moved = true;
    }
    return moved;
  }

  std::size_t items_, step_ = 0, widest_ = 0;
  std::vector<std::size_t> order_;
  std::vector<double> worth_;  // [items]
  double total_ = 0;
  std::vector<term> terms_;
};

}  // namespace QUERN_BUILD
}  // namespace quern::inline v0
