// Activations, for matmuls that end in one and for rows alone.
#pragma once

#include "elementwise.hpp"
#include "simd.hpp"

namespace vivace::VIVACE_ISA {

VIVACE_INLINE V16 activation_of(ActivationKind kind, V16 x) {
  switch (kind) {
    case ActivationKind::gelu:
      return gelu(x);
    case ActivationKind::gelu_tanh:
      return gelu_tanh(x);
    case ActivationKind::relu:
      return max(x, zero());
    default:
      return silu(x);
  }
}

VIVACE_INLINE V16 clamped_swiglu(V16 gate, V16 up, const ActivationTask& activation) {
  const V16 limit = broadcast(activation.limit);
  gate = min(gate, limit);
  up = max(min(up, limit), negate(limit));
  return gate * sigmoid(broadcast(activation.alpha) * gate) * (up + broadcast(1.0f));
}

// The activation of gate times up; up is one where the activation is not gated.
VIVACE_INLINE V16 activated(const ActivationTask& activation, V16 gate, V16 up) {
  if (activation.kind == ActivationKind::swiglu_clamped) {
    return clamped_swiglu(gate, up, activation);
  }
  return activation_of(activation.kind, gate) * up;
}

}  // namespace vivace::VIVACE_ISA
