// The binding of the sampler's kernels.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include "row_sampler.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace vivace {

void bind_sampling(nb::module_& m) {
  using LogitArray = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
  nb::class_<RowSampler>(m, "RowSampler")
      .def("__init__",
           [](RowSampler* self, const std::string& isa) {
             new (self) RowSampler(choose_isa(isa));
           },
           "isa"_a)
      .def("draw",
           [](RowSampler& self, const LogitArray& logits, float best, float inverse_temperature,
              float least, int count, double top_p, double uniform) {
             const DrawTask task{.logits = logits.data(),
                                 .size = static_cast<int>(logits.size()),
                                 .best = best,
                                 .inverse_temperature = inverse_temperature,
                                 .least = least,
                                 .count = count,
                                 .top_p = top_p,
                                 .uniform = uniform};
             const nb::gil_scoped_release released;
             return self.draw(task);
           },
           "logits"_a, "best"_a, "inverse_temperature"_a, "least"_a, "count"_a, "top_p"_a,
           "uniform"_a);
}

}  // namespace vivace
