// Loops over values that use the widest vector unit of the processor.

#pragma once

// The compiler makes a copy of the function for each kind of vector unit, and the loader picks the
// one that fits. ("arch=haswell" would be picked on processors of that family only.) With AVX2, a
// loop with a condition is vectorised only under -fno-trapping-math (build.rs).
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#define FOR_EVERY_VECTOR_UNIT __attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3")))
#else
#define FOR_EVERY_VECTOR_UNIT
#endif
