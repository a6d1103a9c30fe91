// Which positions a row of attention sees (core/sight.py).
#pragma once

namespace vivace {

// All positions up to the row's own, or, once they are more than sinks + window, the first `sinks`
// and the last `window`. window: 0 is no bound.
//   first: but for the sinks, no row sees a position before it.
struct Sight {
  int window = 0;
  int sinks = 0;
  int first = 0;
};

// Whether a row at `position` no longer sees all before it.
static constexpr bool evicts(const Sight& sight, int position) {
  return sight.window != 0 && position >= sight.sinks + sight.window;
}

// The first position that a row sees, sinks left out.
static constexpr int first_visible(const Sight& sight, int position) {
  const int first = evicts(sight, position) ? position - sight.window + 1 : 0;
  return first < sight.first ? sight.first : first;
}

// The position that the cache gives a row: what it sees is counted without a gap.
static constexpr int cached_position(const Sight& sight, int position) {
  return evicts(sight, position) ? sight.sinks + sight.window - 1 : position;
}

// What rows of a sequence see in a layer that has a window of its own: the narrower of the two.
static constexpr Sight sight_of(const Sight& sequence, int window) {
  const bool own = window != 0 && window <= sequence.sinks + sequence.window;
  return sequence.window == 0 || own ? Sight{window, 0, sequence.first} : sequence;
}

}  // namespace vivace
