#include "affinity.hpp"

#if defined(__linux__)
#include <sched.h>
#endif

namespace vivace {

#if defined(__linux__)

std::vector<int> allowed_cpus() {
  cpu_set_t allowed;
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) cpus.push_back(cpu);
  }
  return cpus;
}

int current_cpu() { return sched_getcpu(); }

void pin_thread(int cpu) {
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(cpu, &only);
  sched_setaffinity(0, sizeof only, &only);  // may be forbidden: then it is the system's choice
}

void move_thread(int cpu) {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
  pin_thread(cpu);
  sched_setaffinity(0, sizeof allowed, &allowed);
}

#else

std::vector<int> allowed_cpus() { return {}; }
int current_cpu() { return 0; }
void pin_thread(int) {}
void move_thread(int) {}

#endif

}  // namespace vivace
