// How a GPU multiplies float32.
//
// Called from src/device.rs.

#include <ATen/Context.h>

// Whether its matrix units may take factors with 10 bits after the point, as float16 has them; sums stay float32.
extern "C" void medst_allow_tf32(bool allow) { at::globalContext().setAllowTF32CuBLAS(allow); }
