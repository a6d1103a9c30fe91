// Which CPU a thread runs on. Only Linux says and lets choose; elsewhere nothing happens.
#pragma once

#include <vector>

namespace vivace {

// The CPUs that this thread may run on; none where the system does not say.
std::vector<int> allowed_cpus();

// The CPU that this thread is on, to be compared with one of `allowed_cpus`.
int current_cpu();

// Keeps this thread on a CPU for good.
void pin_thread(int cpu);

// Puts this thread on a CPU; the system may move it on.
void move_thread(int cpu);

}  // namespace vivace
