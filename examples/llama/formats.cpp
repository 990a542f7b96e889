// SPDX-License-Identifier: Apache-2.0
#include <llama/formats_families.hpp>

namespace llama {

std::vector<const format_ops*> all_formats() {
  std::vector<const format_ops*> out;
  for (const auto* family : {&dense_ops(), &dense_scaled_ops(), &level_ops(), &nm_ops(), &group_ops(),
                             &group_nm_ops(), &block_ops()})
    for (const format_ops& o : *family) out.push_back(&o);
  return out;
}

const format_ops* find_format(const std::string& pattern, const std::string& quantizer) {
  for (const format_ops* o : all_formats())
    if (o->pattern == pattern && o->quantizer == quantizer) return o;
  return nullptr;
}

}  // namespace llama
