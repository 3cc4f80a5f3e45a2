// What a GPU does between matrix products in sixteen bits, in fewer passes over memory than the engine's kernels: norms that read float32 and write
// sixteen bits where a product needs them, and their gradients with everything that would be another pass; and dropout.
//
// Compiled while the program runs (launch.cpp), for one width of rows, WIDTH (a multiple of 128, at most 1024), and one type, bfloat16 or with HALF float16.
// Nothing is included, so no toolkit need be installed. A warp takes a row; lane n holds values 4n … 4n + 3 of every 128.

typedef unsigned short sixteen;
typedef long long whole;
typedef unsigned long long bits64;

struct alignas(8) Four16 { sixteen at[4]; };
struct alignas(16) Four32 { float at[4]; };

#ifndef EMULATED
#ifdef HALF
__device__ inline float wide(sixteen x) { float y; asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x)); return y; }
__device__ inline sixteen narrow(float x) { sixteen y; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x)); return y; }
#else
__device__ inline float wide(sixteen x) { return __uint_as_float((unsigned)x << 16); }
__device__ inline sixteen narrow(float x) { sixteen y; asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x)); return y; }
#endif
#endif

constexpr int kQuads = WIDTH / 128;  // of a lane
constexpr int kWarps = 8;            // of a block

__device__ inline float total(float x) {
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}

// Where row `row` of a piece lies among rows of tokens of which the piece is a part.
__device__ inline whole place(whole row, whole tokens, whole pitch, whole offset) { return row / tokens * pitch + offset + row % tokens; }

// The layer norm of rows, y = (x − mean)·deviation·weight + bias, with deviation = 1/√(variance + ε).
extern "C" __global__ void medst_norm(const float* x, const float* weight, const float* bias, sixteen* y, float* means, float* deviations, whole rows, whole tokens,
                                whole pitch, whole offset, float epsilon) {
  const int lane = threadIdx.x % 32;
  const whole row = (whole)blockIdx.x * kWarps + threadIdx.x / 32;
  if (row >= rows) return;
  const Four32* from = (const Four32*)(x + row * WIDTH);
  Four32 own[kQuads];
  float sum = 0;
  for (int n = 0; n < kQuads; n++) {
    own[n] = from[n * 32 + lane];
    for (int i = 0; i < 4; i++) sum += own[n].at[i];
  }
  const float mean = total(sum) / WIDTH;
  float squares = 0;
  for (int n = 0; n < kQuads; n++)
    for (int i = 0; i < 4; i++) squares += (own[n].at[i] - mean) * (own[n].at[i] - mean);
  const float deviation = 1.0f / sqrtf(total(squares) / WIDTH + epsilon);
  Four16* to = (Four16*)(y + place(row, tokens, pitch, offset) * WIDTH);
  for (int n = 0; n < kQuads; n++) {
    const Four32 w = ((const Four32*)weight)[n * 32 + lane], b = ((const Four32*)bias)[n * 32 + lane];
    Four16 result;
    for (int i = 0; i < 4; i++) result.at[i] = narrow((own[n].at[i] - mean) * deviation * w.at[i] + b.at[i]);
    to[n * 32 + lane] = result;
  }
  if (lane == 0) means[row] = mean, deviations[row] = deviation;
}

// The columns' sums over a block: `own` of each lane, `shared` for all, `sums` of this block.
__device__ inline void sum_over_warps(const Four32* own, Four32 (*shared)[WIDTH / 4], float* sums) {
  for (int n = 0; n < kQuads; n++) shared[threadIdx.x / 32][n * 32 + threadIdx.x % 32] = own[n];
  __syncthreads();
  for (int column = threadIdx.x; column < WIDTH; column += kWarps * 32) {
    float sum = 0;
    for (int warp = 0; warp < kWarps; warp++) sum += shared[warp][column / 4].at[column % 4];
    sums[column] = sum;
  }
  __syncthreads();
}

// Its gradient by the rows, to which `beside` is added, what came past the layer; and for each block the sums of those by weight and bias.
// * of_y: in the places of `medst_norm`. * of_weight, of_bias: `[gridDim.x, WIDTH]`.
extern "C" __global__ void __launch_bounds__(kWarps * 32, 2)
medst_pull_norm(const sixteen* of_y, const float* x, const float* means, const float* deviations, const float* weight, const float* beside, float* of_x,
                float* of_weight, float* of_bias, whole rows, whole tokens, whole pitch, whole offset) {
  __shared__ Four32 shared[kWarps][WIDTH / 4];
  const int lane = threadIdx.x % 32;
  Four32 by_weight[kQuads], by_bias[kQuads];
  for (int n = 0; n < kQuads; n++)
    for (int i = 0; i < 4; i++) by_weight[n].at[i] = by_bias[n].at[i] = 0;
  for (whole row = (whole)blockIdx.x * kWarps + threadIdx.x / 32; row < rows; row += (whole)gridDim.x * kWarps) {
    const Four16* from = (const Four16*)(of_y + place(row, tokens, pitch, offset) * WIDTH);
    const Four32* state = (const Four32*)(x + row * WIDTH);
    const float mean = means[row], deviation = deviations[row];
    Four16 given[kQuads];
    Four32 normal[kQuads];
    float sum = 0, product = 0;
    for (int n = 0; n < kQuads; n++) {
      given[n] = from[n * 32 + lane];
      normal[n] = state[n * 32 + lane];
      const Four32 w = ((const Four32*)weight)[n * 32 + lane];
      for (int i = 0; i < 4; i++) {
        const float g = wide(given[n].at[i]), z = (normal[n].at[i] - mean) * deviation;
        normal[n].at[i] = z;
        by_weight[n].at[i] += g * z;
        by_bias[n].at[i] += g;
        sum += g * w.at[i];
        product += g * w.at[i] * z;
      }
    }
    sum = total(sum) / WIDTH, product = total(product) / WIDTH;
    const Four32* past = (const Four32*)(beside + row * WIDTH);
    Four32* to = (Four32*)(of_x + row * WIDTH);
    for (int n = 0; n < kQuads; n++) {
      const Four32 w = ((const Four32*)weight)[n * 32 + lane];
      Four32 result = past[n * 32 + lane];
      for (int i = 0; i < 4; i++) result.at[i] += deviation * (wide(given[n].at[i]) * w.at[i] - sum - normal[n].at[i] * product);
      to[n * 32 + lane] = result;
    }
  }
  sum_over_warps(by_weight, shared, of_weight + (whole)blockIdx.x * WIDTH);
  sum_over_warps(by_bias, shared, of_bias + (whole)blockIdx.x * WIDTH);
}

// The gradient of the exact GELU, in place, and for each row of blocks the sums of its columns. A thread takes four columns.
// * units, gradient: `[rows, columns]`. * sums: `[gridDim.y, columns]`.
extern "C" __global__ void medst_pull_gelu(const sixteen* units, sixteen* gradient, float* sums, whole rows, whole columns) {
  const whole quad = (whole)blockIdx.x * blockDim.x + threadIdx.x;
  if (quad * 4 >= columns) return;
  Four32 sum;
  for (int i = 0; i < 4; i++) sum.at[i] = 0;
  for (whole row = blockIdx.y; row < rows; row += gridDim.y) {
    const Four16 unit = ((const Four16*)(units + row * columns))[quad];
    Four16* at = (Four16*)(gradient + row * columns) + quad;
    Four16 own = *at;
    for (int i = 0; i < 4; i++) {
      const float x = wide(unit.at[i]);
      const float distribution = 0.5f * (1.0f + erff(x * 0.70710678f)), density = 0.39894228f * expf(-0.5f * x * x);
      own.at[i] = narrow(wide(own.at[i]) * (distribution + x * density));
      sum.at[i] += wide(own.at[i]);
    }
    *at = own;
  }
  ((Four32*)(sums + (whole)blockIdx.y * columns))[quad] = sum;
}

// Dropout as ops/dropout.cpp says, to the bit. A warp takes a line.

__device__ inline bits64 mix(bits64 x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

__device__ inline bool stays(unsigned unit, bits64 key, unsigned limit) {
  unsigned bits = (unit ^ (unsigned)key) * 0x7feb352du;
  bits = (bits ^ (bits >> 15)) + (unsigned)(key >> 32);
  bits *= 0x846ca68bu;
  bits = (bits ^ (bits >> 16)) * 0x7feb352du;
  bits ^= bits >> 15;
  return (bits >> 8) >= limit;
}

__device__ inline void put(float* to, float x) { *to = x; }
__device__ inline void put(sixteen* to, float x) { *to = narrow(x); }
__device__ inline float got(float x) { return x; }
__device__ inline float got(sixteen x) { return wide(x); }

template <typename T>
__device__ inline void drop(const T* x, T* y, const whole* seeds, whole lines, whole lines_of_row, whole tokens, whole width, whole place, unsigned limit,
                            float scale) {
  const whole line = (whole)blockIdx.x * kWarps + threadIdx.x / 32;
  if (line >= lines) return;
  const whole within = line % lines_of_row;
  const bits64 of_row = mix(mix((bits64)seeds[line / lines_of_row]) + (bits64)place);
  const bits64 key = mix(of_row ^ mix(((bits64)(within / tokens) << 32) + (bits64)(within % tokens)));
  const T* from = x + line * width;
  T* to = y + line * width;
  for (whole unit = threadIdx.x % 32; unit < width; unit += 32) put(to + unit, stays((unsigned)unit, key, limit) ? got(from[unit]) * scale : 0.0f);
}

// * x, y: `[lines, width]`, of which each row, with a seed of its own, has `lines_of_row`, and each of its heads `tokens`.
extern "C" __global__ void medst_drop(const sixteen* x, sixteen* y, const whole* seeds, whole lines, whole lines_of_row, whole tokens, whole width, whole place,
                                      unsigned limit, float scale) {
  drop(x, y, seeds, lines, lines_of_row, tokens, width, place, limit, scale);
}

extern "C" __global__ void medst_drop_float(const float* x, float* y, const whole* seeds, whole lines, whole lines_of_row, whole tokens, whole width, whole place,
                                            unsigned limit, float scale) {
  drop(x, y, seeds, lines, lines_of_row, tokens, width, place, limit, scale);
}
