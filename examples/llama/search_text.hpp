// SPDX-License-Identifier: Apache-2.0
#pragma once
// std::string text = llama::as_text(task, genome, layers);
// llama::genome again = llama::from_text(task, text, layers).value();

#include <llama/search_task.hpp>
#include <string>

namespace llama {

/// EvoPress's text form: one line per linear, "blk.3.ffn_up: 3", in depth searches one per block: attn, mlp, attn+mlp
/// (what is dropped) or none.
std::string as_text(const search_task& task, const genome& g, std::size_t layers);
/// The genome of that form. A linear of a dropped half gets its lowest level, which the form does not tell.
/// @returns an error that names the line of a linear or level that the task lacks, a linear without a line, or a budget
///          that is not kept
quern::result<genome> from_text(const search_task& task, const std::string& text, std::size_t layers);
/// One "pattern=type" a line for llama-quantize --tensor-type-file (or each after --tensor-type): the K-quant of each
/// linear's bits. llama.cpp prunes nothing: sparse levels are given by the bits of their codes; halves that are dropped
/// have no line.
std::string as_tensor_types(const search_task& task, const genome& g);

}  // namespace llama
