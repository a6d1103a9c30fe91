// What the binding files share: how arrays come from Python.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "weights.hpp"

NB_MAKE_OPAQUE(vivace::Vector)

namespace vivace {

namespace nb = nanobind;
using namespace nb::literals;

void bind_weights(nb::module_& m);

}  // namespace vivace
