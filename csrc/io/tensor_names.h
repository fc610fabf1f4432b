// Tensors as containers name and shape them become the official checkpoint's:
// renamed, fused ones cut into their slices, dimensions of 1 squeezed out.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/model_file.h"

namespace rwkvcpp {

/// Whether GGUF files of this general.architecture can be renamed.
bool is_known_architecture(std::string_view architecture) noexcept;

/// "rwkv4, rwkv5, rwkv6, rwkv7".
std::string known_architectures();

/// "blk.3.attn_norm.weight" -> "blocks.3.ln1.weight". A name that is not in the
/// tables stays as it is: the model lists it among the unexpected ones.
std::string checkpoint_name(std::string_view architecture, const std::string& gguf_name);

/// The way back; nothing where files of that architecture have no such tensor.
std::optional<std::string> gguf_name(std::string_view architecture,
                                     std::string_view checkpoint_name);

/// Adds `tensors`, whose names are the checkpoint's, with the slices and shapes
/// that model_file.h promises. Sets `head_size` where shapes tell it.
void add_in_checkpoint_form(ModelFile& file, std::vector<TensorInfo> tensors);

/// Number of blocks that `tensors` speak of: one more than the highest index.
std::size_t count_blocks(const std::vector<TensorInfo>& tensors);

}  // namespace rwkvcpp
