// SPDX-License-Identifier: Apache-2.0
#pragma once
// const llama::format_ops* f = llama::find_format("group<16>", "affine<4,16>");
// if (f != nullptr) auto w = f->pack(dense, &mask, pool);

#include <llama/input.hpp>
#include <memory>
#include <quern/core/span2.hpp>
#include <quern/core/thread_pool.hpp>
#include <quern/format/matrix.hpp>
#include <quern/io/safetensors_writer.hpp>
#include <quern/pattern/mask.hpp>
#include <string>
#include <vector>

// Declared, not included: Eigen stays with those who compress (quern/compress/layer.hpp) and train.
namespace quern::inline v0 {
inline namespace QUERN_BUILD {
struct inverse_hessian;
class trained_weight;
}  // namespace QUERN_BUILD
struct compress_options;
}  // namespace quern::inline v0

namespace llama {

struct format_ops;

/// A packed matrix whose format is known only at run time: where its streams lie, and who keeps them alive.
struct packed_matrix {
  const format_ops* format = nullptr;
  quern::packed_view raw;
  std::shared_ptr<const void> owner;
};

/// What the programs do with a packed matrix, for one format. The table of all formats that the programs are
/// compiled for is where names from files and command lines meet types; each entry instantiates the library
/// once.
struct format_ops {
  std::string pattern, quantizer;
  quern::storage (*bytes)(std::size_t rows, std::size_t cols, std::size_t cells);
  quern::result<void> (*check)(const quern::packed_view&, const quern::storage&);
  /// See the members of llama::linear with these names.
  reading (*reads)(activation, std::size_t tokens);
  std::size_t (*pieces)(const quern::packed_view&, const input&);
  void (*multiply)(const quern::packed_view&, const input&, quern::span2<float> y, std::size_t begin,
                   std::size_t end);
  /// Rows [first, first + out.rows()) as floats.
  void (*unpack_rows)(const quern::packed_view&, std::size_t first, quern::span2<float> out);
  /// Rounds to nearest; pruned where the mask says so, or where weights are zero.
  quern::result<packed_matrix> (*pack)(quern::span2<const float>, const quern::bit_mask*,
                                       quern::thread_pool&);
  /// Prunes and rounds with what is known of the inputs (quern::compress_layer), then packs.
  quern::result<packed_matrix> (*compress)(quern::span2<const float>, const quern::inverse_hessian&,
                                           const quern::compress_options&, quern::thread_pool&);
  /// The matrix in training, where it is now (quern/train/trained_weight.hpp).
  quern::trained_weight (*train)(const quern::packed_view&);
  /// Packs what training made of one: nothing is rounded again.
  quern::result<packed_matrix> (*pack_trained)(const quern::trained_weight&, quern::thread_pool&);
  /// Adds the matrix to a file.
  void (*save)(quern::safetensors_writer&, const std::string& name, const quern::packed_view&);
};

/// The format with these names, or null.
const format_ops* find_format(const std::string& pattern, const std::string& quantizer);
/// All formats, sorted by pattern and quantizer as they are listed in the source.
std::vector<const format_ops*> all_formats();

}  // namespace llama
