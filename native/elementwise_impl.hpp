// The row kernels on V16: see elementwise.hpp for what each does.
#pragma once

#include <cstring>

#include "activation_impl.hpp"
#include "elementwise.hpp"
#include "table_impl.hpp"

namespace vivace::VIVACE_ISA {

// --- norms ---

static float mean_of(const float* x, int width) {
  V16 sum = zero();
  for_lanes(width, [&](int i, int lanes) { sum = sum + load_lanes(x + i, lanes); });
  return reduce_add(sum) / static_cast<float>(width);
}

// The mean of (x - center)^2.
static float power_of(const float* x, float center, int width) {
  V16 sum = zero();
  for_lanes(width, [&](int i, int lanes) {
    const V16 centered = load_lanes(x + i, lanes) - broadcast(center);
    const V16 a = select(first_lanes(lanes), centered, zero());
    sum = fma(a, a, sum);
  });
  return reduce_add(sum) / static_cast<float>(width);
}

static void normalize(const float* x, const NormTask& norm, float* out) {
  const float center = norm.kind == NormKind::layer ? mean_of(x, norm.width) : 0.0f;
  const float power = power_of(x, center, norm.width);
  const V16 factor = broadcast(1.0f / __builtin_sqrtf(power + norm.eps));
  for_lanes(norm.width, [&](int i, int lanes) {
    const V16 centered = load_lanes(x + i, lanes) - broadcast(center);
    V16 y = centered * factor * load_lanes(norm.weight + i, lanes);
    if (norm.bias != nullptr) y = y + load_lanes(norm.bias + i, lanes);
    store_lanes(out + i, y, lanes);
  });
}

// --- activations ---

static void activate(const float* in, const ActivationTask& activation, int width, float* out) {
  for_lanes(width, [&](int i, int lanes) {
    const V16 x = load_lanes(in + i, lanes);
    const V16 up = activation.gated ? load_lanes(in + width + i, lanes) : broadcast(1.0f);
    store_lanes(out + i, activated(activation, x, up), lanes);
  });
}

// --- sums ---

static void add(const float* residual, const float* y, float multiplier, int width, float* out) {
  for_lanes(width, [&](int i, int lanes) {
    const V16 product = load_lanes(y + i, lanes) * broadcast(multiplier);
    store_lanes(out + i, load_lanes(residual + i, lanes) + product, lanes);
  });
}

static void accumulate(float* sum, const float* y, float weight, int width) {
  for_lanes(width, [&](int i, int lanes) {
    const V16 total = fma(load_lanes(y + i, lanes), broadcast(weight), load_lanes(sum + i, lanes));
    store_lanes(sum + i, total, lanes);
  });
}

static void cap(float* x, float multiplier, float softcap, int width) {
  for_lanes(width, [&](int i, int lanes) {
    V16 a = load_lanes(x + i, lanes) * broadcast(multiplier);
    if (softcap != 0.0f) a = broadcast(softcap) * tanh(a / broadcast(softcap));
    store_lanes(x + i, a, lanes);
  });
}

// --- rotary positions and pages ---

static void turn(float* head, const float* cos, const float* sin, int half) {
  for_lanes(half, [&](int i, int lanes) {
    const V16 a = load_lanes(head + i, lanes), b = load_lanes(head + half + i, lanes);
    const V16 c = load_lanes(cos + i, lanes), s = load_lanes(sin + i, lanes);
    store_lanes(head + i, a * c - b * s, lanes);
    store_lanes(head + half + i, b * c + a * s, lanes);
  });
}

VIVACE_INLINE void store_as(float* to, V16 a) { store(to, a); }
VIVACE_INLINE void store_as(std::uint16_t* to, V16 a) { store_bf16(to, a); }

// Stores a head's values in groups of neighbours, `stride` elements from group to group.
template <int Neighbours, typename T>
VIVACE_INLINE void scatter(const float* head, int head_dim, T* to, int stride) {
  for_lanes(head_dim, [&](int i, int lanes) {
    T values[16];
    store_as(values, load_lanes(head + i, lanes));
    T* const group = to + i / Neighbours * stride;
    if (lanes < 16) {
      for (int j = 0; j < lanes; ++j) group[j / Neighbours * stride + j % Neighbours] = values[j];
      return;
    }
    for (int j = 0; j < 16; j += Neighbours) {
      std::memcpy(group + j / Neighbours * stride, values + j, Neighbours * sizeof(T));
    }
  });
}

static void write_key(const float* head, const PageSlot& at) {
  char* const keys = static_cast<char*>(at.page) + key_offset(at.kv, at.head);
  const int first = key_index(at.kv, at.slot, 0);
  if (at.kv.dtype == DType::float32) {
    return scatter<1>(head, at.kv.head_dim, (float*)keys + first, kPageTokens);
  }
  scatter<2>(head, at.kv.head_dim, (std::uint16_t*)keys + first, 2 * kPageTokens);
}

static void write_value(const float* head, const PageSlot& at) {
  char* const values = static_cast<char*>(at.page) + value_offset(at.kv, at.head);
  const int first = value_index(at.kv, at.slot, 0);
  if (at.kv.dtype == DType::float32) {
    return scatter<1>(head, at.kv.head_dim, (float*)values + first, 1);
  }
  scatter<1>(head, at.kv.head_dim, (std::uint16_t*)values + first, value_row_tokens(at.kv));
}

// --- experts ---

// Logits to probabilities, in place.
static void softmax(float* x, int width) {
  float top = x[0];
  for (int i = 1; i < width; ++i) top = x[i] > top ? x[i] : top;
  float sum = 0.0f;
  for_lanes(width, [&](int i, int lanes) {
    store_lanes(x + i, exp(load_lanes(x + i, lanes) - broadcast(top)), lanes);
  });
  for (int i = 0; i < width; ++i) sum += x[i];
  for (int i = 0; i < width; ++i) x[i] /= sum;
}

static int likeliest(const float* probabilities, int num_experts) {
  int best = 0;
  for (int expert = 1; expert < num_experts; ++expert) {
    if (probabilities[expert] > probabilities[best]) best = expert;
  }
  return best;
}

static void route(float* logits, int num_experts, int top_k, bool renormalize,
                  std::int32_t* chosen, float* weights) {
  softmax(logits, num_experts);
  float sum = 0.0f;
  for (int rank = 0; rank < top_k; ++rank) {
    chosen[rank] = likeliest(logits, num_experts);
    weights[rank] = logits[chosen[rank]];
    logits[chosen[rank]] = -1.0f;
    sum += weights[rank];
  }
  if (!renormalize) return;
  for (int rank = 0; rank < top_k; ++rank) weights[rank] /= sum;
}

constexpr RowKernels kRowKernels = {
    .to_table = to_table,
    .embed = embed,
    .normalize = normalize,
    .activate = activate,
    .add = add,
    .accumulate = accumulate,
    .cap = cap,
    .turn = turn,
    .write_key = write_key,
    .write_value = write_value,
    .route = route,
};

}  // namespace vivace::VIVACE_ISA
