// All operations in one unit: libtorch's headers, which are most of what there is to compile, are
// read once instead of twelve times (236 s of a core
// become 42).

#include "adamw.cpp"
#include "attend.cpp"
#include "dropout.cpp"
#include "fused.cpp"
#include "gelu.cpp"
#include "int8.cpp"
#include "memory.cpp"
#include "pool.cpp"
#include "product.cpp"
#include "reduce.cpp"
#include "tf32.cpp"
// Last: it compiles functions for AVX-512, and no template must be instantiated there for others to
// use.
#include "attention.cpp"
