// Loops over values, as fast as the processor at hand can.

#pragma once

// The compiler makes a copy of the function for each kind of vector unit, and the one that fits is picked when the program is loaded.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#define FOR_EVERY_VECTOR_UNIT __attribute__((target_clones("avx512f", "arch=haswell", "default"), optimize("O3")))
#else
#define FOR_EVERY_VECTOR_UNIT
#endif
