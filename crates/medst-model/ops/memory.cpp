// The memory that tensors are stored in.
//
// Called from src/ops.rs.

#include <ATen/ATen.h>

#include "guarded.h"

// All parts as one flat tensor on the same memory; undefined unless they follow each other in one
// storage without gaps.
extern "C" at::Tensor* medst_whole(at::Tensor* const* parts, size_t count, char** error) {
  return medst::guarded(error, [&]() -> at::Tensor {
    int64_t length = 0;
    for (size_t n = 0; n < count; n++) {
      const auto& part = *parts[n];
      if (!part.is_contiguous() || !part.is_alias_of(*parts[0]) || part.scalar_type() != parts[0]->scalar_type() ||
          part.storage_offset() != parts[0]->storage_offset() + length) {
        return {};
      }
      length += part.numel();
    }
    return count == 0 ? at::Tensor() : parts[0]->as_strided({length}, {1}, parts[0]->storage_offset());
  });
}

// A copy in pinned memory, which a GPU reads directly while the host continues.
extern "C" at::Tensor* medst_pinned(const at::Tensor* x, char** error) {
  return medst::guarded(error, [&] { return x->pin_memory(); });
}
