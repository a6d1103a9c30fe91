// Weights, pages and packed files as Python sees them.
#include "adapters.hpp"
#include "bindings.hpp"
#include "packed_file.hpp"

namespace vivace {
namespace {

using FloatArray = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using WeightArray = nb::ndarray<nb::ro, nb::ndim<2>, nb::device::cpu>;
using ByteArray = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using PagesArray = nb::ndarray<nb::numpy, std::uint8_t, nb::ndim<3>>;

Vector vector_of(const FloatArray& array) {
  return Vector(array.data(), array.data() + array.size());
}

// Stored rows and the arrays that they stand in.
struct Part {
  WeightArray rows;
  std::optional<WeightArray> scales;
  std::optional<ByteArray> zero_points;
  WeightPart part;
};

std::size_t item_bytes(SourceType type) {
  if (type == SourceType::float32) return 4;
  return type == SourceType::int8 || type == SourceType::int4 ? 1 : 2;
}

Part make_part(const WeightArray& rows, SourceType type, const std::optional<WeightArray>& scales,
               const std::optional<ByteArray>& zero_points) {
  require_shape(rows.itemsize() == item_bytes(type), "a weight and its number format");
  require_shape(rows.stride(1) == 1 || rows.shape(1) <= 1, "a weight's rows must be contiguous");
  const std::size_t scale_bytes = type == SourceType::int8 ? 4 : 2;
  require_shape(!scales || scales->itemsize() == scale_bytes, "scales and their number format");
  require_shape(!scales || scales->shape(0) == rows.shape(0), "rows and their scales");
  require_shape(!zero_points || zero_points->size() == scales->size(), "scales and zero points");
  return {rows, scales, zero_points,
          {.rows = rows.data(),
           .type = type,
           .num_rows = static_cast<int>(rows.shape(0)),
           .row_stride = rows.stride(0),
           .scales = scales ? scales->data() : nullptr,
           .zero_points = zero_points ? zero_points->data() : nullptr}};
}

// Bytes or elements that a row of k values takes.
std::size_t row_items(SourceType type, int k) {
  return type == SourceType::int4 ? (std::size_t(k) + 1) / 2 : std::size_t(k);
}

void pack_linear(Linear& linear, Runtime& runtime, const std::vector<Part>& parts) {
  std::vector<WeightPart> weights;
  for (const Part& part : parts) {
    require_shape(part.rows.shape(1) == row_items(part.part.type, linear.matrix.k),
                  "parts of a linear layer and its inputs");
    const int group = linear.matrix.format.group;
    const std::size_t groups = group == 0 ? 1 : (linear.matrix.k + group - 1) / group;
    require_shape(!part.scales || part.scales->shape(1) == groups, "scales and their groups");
    weights.push_back(part.part);
  }
  const nb::gil_scoped_release released;
  linear.pack(runtime, weights);
}

// One part of an adapter: a [rank, inputs], b [outputs, rank], its first output and its scale.
using LowRankParts = std::vector<std::tuple<Part, Part, int, float>>;

std::shared_ptr<LowRank> make_low_rank(Runtime& runtime, DType dtype, const LowRankParts& parts) {
  require_shape(!parts.empty(), "an adapter needs parts");
  const std::size_t inputs = std::get<0>(parts[0]).rows.shape(1);
  std::vector<LowRankSource> sources;
  for (const auto& [a, b, first, scale] : parts) {
    require_shape(a.rows.shape(1) == inputs, "an adapter's inputs");
    require_shape(b.rows.shape(1) == a.rows.shape(0), "an adapter's rank");
    sources.push_back({a.part, b.part, first, scale});
  }
  const nb::gil_scoped_release released;
  return std::make_shared<LowRank>(runtime, dtype, static_cast<int>(inputs), sources);
}

void pack_embedding(Embedding& table, Runtime& runtime, const Part& part) {
  require_shape(part.rows.shape(1) == std::size_t(table.width), "a table and its width");
  require_shape((part.part.type == SourceType::int8) == part.scales.has_value(),
                "int8 codes and their scales");
  const nb::gil_scoped_release released;
  table.pack(runtime, part.part);
}

std::shared_ptr<RotaryTable> make_rotary(int half, const FloatArray& cos, const FloatArray& sin) {
  require_shape(half > 0 && cos.size() == sin.size(), "cosines and sines");
  const int positions = static_cast<int>(cos.size()) / half;
  return std::make_shared<RotaryTable>(positions, half, vector_of(cos), vector_of(sin));
}

PagesArray pages_of(nb::handle self) {
  const KVCache& cache = nb::cast<const KVCache&>(self);
  const auto layers = static_cast<std::size_t>(cache.num_layers);
  return PagesArray(cache.memory.at<std::uint8_t>(),
                    {layers, cache.num_pages, cache.bytes_per_page()}, self);
}

void bind_formats(nb::module_& m) {
  nb::enum_<DType>(m, "DType")
      .value("float32", DType::float32)
      .value("bfloat16", DType::bfloat16);
  nb::enum_<SourceType>(m, "SourceType")
      .value("float32", SourceType::float32)
      .value("float16", SourceType::float16)
      .value("bfloat16", SourceType::bfloat16)
      .value("int8", SourceType::int8)
      .value("int4", SourceType::int4);
  nb::enum_<WeightKind>(m, "WeightKind")
      .value("float32", WeightKind::float32)
      .value("bfloat16", WeightKind::bfloat16)
      .value("int8", WeightKind::int8)
      .value("int4", WeightKind::int4);
  nb::enum_<RowKind>(m, "RowKind")
      .value("float32", RowKind::float32)
      .value("bfloat16", RowKind::bfloat16)
      .value("int8", RowKind::int8);
}

// What a packed store keeps of a handle.
template <typename Packed>
void bind_bytes(nb::class_<Packed>& handle) {
  handle
      .def_prop_ro("nbytes", [](const Packed& self) { return self.nbytes(); })
      .def_prop_ro("file_bytes", [](const Packed& self) { return file_bytes(self.nbytes()); })
      .def("write",
           [](const Packed& self, Runtime& runtime, int file) {
             return write_blocks(runtime, file, self.bytes());
           },
           nb::call_guard<nb::gil_scoped_release>())
      .def("read",
           [](Packed& self, Runtime& runtime, int file, const Checksums& checksums) {
             self.take_memory(runtime);
             return read_blocks(runtime, file, self.bytes(), checksums);
           },
           nb::call_guard<nb::gil_scoped_release>())
      .def("map",
           [](Packed& self, Runtime& runtime, int file, const Checksums& checksums) {
             auto mapped = map_blocks(runtime, file, self.nbytes(), checksums);
             const bool intact = mapped != nullptr;
             if (intact) self.use(std::move(mapped));
             return intact;
           },
           nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace

void bind_weights(nb::module_& m) {
  m.attr("SOURCES") = VIVACE_SOURCES;
  m.attr("HUGE_PAGE") = kHugePage;
  m.def("maps_huge_pages", &maps_huge_pages);
  bind_formats(m);
  nb::class_<Vector>(m, "Vector").def("__init__", [](Vector* self, const FloatArray& array) {
    new (self) Vector(vector_of(array));
  });
  nb::class_<WeightFormat>(m, "WeightFormat")
      .def(nb::new_([](WeightKind kind, RowKind rows, int group, bool zero_points) {
        return WeightFormat{kind, rows, group, zero_points};
      }));
  nb::class_<Part>(m, "Part").def(nb::new_(&make_part), "rows"_a, "type"_a, "scales"_a.none(),
                                  "zero_points"_a.none());
  nb::class_<Embedding> embedding(m, "Embedding");
  embedding
      .def(nb::new_([](SourceType type, std::pair<int, int> shape) {
        return std::make_shared<Embedding>(type, shape.first, shape.second);
      }))
      .def("pack", &pack_embedding)
      .def_ro("width", &Embedding::width);
  bind_bytes(embedding);
  nb::class_<LowRank>(m, "LowRank").def(nb::new_(&make_low_rank));
  nb::class_<Linear> linear(m, "Linear");
  linear
      .def(nb::new_([](Runtime& runtime, const WeightFormat& format, std::pair<int, int> shape,
                       int planes, bool gated, const std::optional<FloatArray>& bias) {
             const PackedMatrix matrix{.format = format,
                                       .n = shape.first,
                                       .k = shape.second * planes,
                                       .gated = gated,
                                       .planes = planes};
             return std::make_shared<Linear>(runtime, matrix, bias ? vector_of(*bias) : Vector());
           }),
           "runtime"_a, "format"_a, "shape"_a, "planes"_a, "gated"_a, "bias"_a.none())
      .def("pack", &pack_linear)
      .def("make_room", &Linear::make_room)
      .def("set_adapter", &Linear::set_adapter, "slot"_a, "adapter"_a.none())
      .def_prop_ro("n", &Linear::n)
      .def_prop_ro("k", &Linear::k);
  bind_bytes(linear);
  nb::class_<RotaryTable>(m, "RotaryTable").def(nb::new_(&make_rotary));
  nb::class_<KVLayout>(m, "KVLayout")
      .def(nb::new_([](DType dtype, int num_kv_heads, int head_dim, int packed_bits) {
        return KVLayout{dtype, num_kv_heads, head_dim, packed_bits};
      }))
      .def_prop_ro("page_bytes", [](const KVLayout& self) { return page_bytes(self); });
  nb::class_<KVCache>(m, "KVCache")
      .def("__init__",
           [](KVCache* self, const KVLayout& layout, int num_layers, int num_pages) {
             new (self) KVCache(layout, num_layers, num_pages);
           })
      .def("copy_pages", &KVCache::copy_pages)
      .def("release_pages", &KVCache::release_pages)
      .def_prop_ro("pages", &pages_of);
}

}  // namespace vivace
