// Where native code meets Python: vivace.backends.cpu._native, typed in _native.pyi.
#include "bindings.hpp"

#include "bandwidth.hpp"
#include "program.hpp"

namespace vivace {
namespace {

using IntArray = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using TableArray = nb::ndarray<const std::int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using SightArray =
    nb::ndarray<const std::int32_t, nb::shape<-1, 3>, nb::c_contig, nb::device::cpu>;
using QueriesArray = nb::ndarray<float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using OutputArray = nb::ndarray<nb::numpy, float, nb::ndim<2>>;

// A value of a program: its buffer and its width.
using Value = std::pair<int, int>;

Ints ints_of(const IntArray& array) { return {array.data(), array.size()}; }

void run(Program& program, const IntArray& token_ids, const IntArray& positions,
         const IntArray& query_starts, const IntArray& context_lens,
         const std::vector<TableArray>& block_tables, const IntArray& logit_rows,
         const std::optional<IntArray>& adapter_ids, const SightArray& sights,
         const IntArray& observed_rows, const std::vector<QueriesArray>& observed) {
  Batch batch{.token_ids = ints_of(token_ids),
              .positions = ints_of(positions),
              .query_starts = ints_of(query_starts),
              .context_lens = ints_of(context_lens),
              .block_tables = {},
              .logit_rows = ints_of(logit_rows),
              .adapter_ids = adapter_ids ? ints_of(*adapter_ids) : Ints{},
              .sights = {sights.data(), sights.size()},
              .observed_rows = ints_of(observed_rows),
              .observed = {}};
  for (const QueriesArray& queries : observed) {
    require_shape(queries.shape(1) == observed_rows.size(), "observed rows and their queries");
    batch.observed.push_back({queries.data(), static_cast<int>(queries.shape(0)),
                              static_cast<int>(queries.shape(2))});
  }
  for (const TableArray& table : block_tables) {
    batch.block_tables.push_back(
        {table.data(), static_cast<int>(table.shape(0)), static_cast<int>(table.shape(1))});
  }
  const nb::gil_scoped_release released;
  program.run(batch);
}

OutputArray output(nb::handle self, Value value, std::size_t rows) {
  const Program& program = nb::cast<const Program&>(self);
  const Rows data = program.rows(value.first, value.second, rows);
  return OutputArray(data.data, {rows, static_cast<std::size_t>(value.second)}, self);
}

Residual residual_of(const Program& program, Value into, const std::optional<Norm>& post_norm,
                     float multiplier) {
  return {program.rows(into.first, into.second), post_norm, multiplier};
}

// The pages of a group in which a layer of [heads, KV heads, head size] stands.
const std::shared_ptr<KVCache>& pages_of(const Program& program, int group, int layer,
                                         const std::array<int, 3>& heads) {
  const auto& cache = program.cache(group);
  require_shape(cache->layout.num_kv_heads == heads[1] && cache->layout.head_dim == heads[2],
                "attention's heads and its KV group");
  require_shape(layer >= 0 && layer < cache->num_layers, "a KV layer and its group");
  return cache;
}

// --- what Python sees ---

void bind_enums(nb::module_& m) {
  nb::enum_<NormKind>(m, "NormKind").value("rms", NormKind::rms).value("layer", NormKind::layer);
  nb::enum_<ActivationKind>(m, "ActivationKind")
      .value("silu", ActivationKind::silu)
      .value("gelu", ActivationKind::gelu)
      .value("gelu_tanh", ActivationKind::gelu_tanh)
      .value("relu", ActivationKind::relu)
      .value("swiglu_clamped", ActivationKind::swiglu_clamped);
}

void bind_runtime(nb::module_& m) {
  m.def("best_isa", [] { return std::string(isa_name(best_isa())); });
  nb::class_<Runtime>(m, "Runtime")
      .def("__init__",
           [](Runtime* self, unsigned threads, const std::string& isa) {
             new (self) Runtime(threads, choose_isa(isa));
           })
      .def_prop_ro("isa",
                   [](const Runtime& self) { return std::string(isa_name(self.kernels.isa)); })
      .def("read_bandwidth", &read_bandwidth, nb::arg("bytes"),
           nb::call_guard<nb::gil_scoped_release>());
}

void bind_parts_of_ops(nb::module_& m) {
  nb::class_<Norm>(m, "Norm").def(
      nb::new_([](NormKind kind, std::shared_ptr<Vector> weight, std::shared_ptr<Vector> bias,
                  float eps) { return Norm{kind, weight, bias, eps}; }),
      "kind"_a, "weight"_a, "bias"_a.none(), "eps"_a);
  nb::class_<ActivationTask>(m, "Activation")
      .def(nb::new_([](ActivationKind kind, bool gated, float limit, float alpha) {
        return ActivationTask{kind, gated, limit, alpha};
      }));
  nb::class_<AttentionOp>(m, "Attention")
      .def(nb::new_([](const Program& program, std::pair<int, int> place,
                       const std::array<int, 3>& heads, float scale, int window, float softcap,
                       std::optional<int> far_group) {
        const auto cache = pages_of(program, place.first, place.second, heads);
        require_shape(cache->layout.packed_bits == 0, "attention and pages of its own numbers");
        AttentionOp op{cache, place.first, place.second, heads[0], scale, window, softcap, nullptr};
        if (!far_group) return op;
        op.far = pages_of(program, *far_group, place.second, heads);
        op.far_group = *far_group;
        require_shape(op.far->layout.packed_bits != 0, "far pages are packed");
        return op;
      }),
      "program"_a, "place"_a, "heads"_a, "scale"_a, "window"_a, "softcap"_a, "far_group"_a.none());
  nb::class_<ExpertsOp>(m, "Experts")
      .def(nb::new_([](std::shared_ptr<Linear> router, std::vector<std::shared_ptr<Linear>> up,
                       std::vector<std::shared_ptr<Linear>> down, const ActivationTask& activation,
                       int top_k, bool renormalize) {
        return ExpertsOp{router,     {up.begin(), up.end()}, {down.begin(), down.end()},
                         activation, top_k,                  renormalize};
      }));
}

void bind_dense_ops(nb::class_<Program>& program) {
  program
      .def("embed",
           [](Program& self, Value out, std::shared_ptr<Embedding> tokens, float multiplier,
              std::shared_ptr<Embedding> positions) {
             self.add(make_embed({tokens, positions, multiplier},
                                 self.rows(out.first, out.second)));
           },
           "out"_a, "tokens"_a, "multiplier"_a, "positions"_a.none())
      .def("norm",
           [](Program& self, Value out, Value x, const Norm& norm) {
             self.add(make_norm(self.rows(x.first, x.second), norm,
                                self.rows(out.first, out.second)));
           })
      .def("norm_linear",
           [](Program& self, Value out, Value x, const std::optional<Norm>& norm,
              std::shared_ptr<Linear> linear, const std::optional<ActivationTask>& activation) {
             self.add(make_norm_linear(self.context(), self.rows(x.first, x.second), norm, linear,
                                       activation, self.rows(out.first, out.second)));
           },
           "out"_a, "x"_a, "norm"_a.none(), "linear"_a, "activation"_a.none())
      .def("linear_residual",
           [](Program& self, Value out, Value x, std::shared_ptr<Linear> linear, Value into,
              const std::optional<Norm>& post_norm, float multiplier) {
             self.add(make_linear_residual(self.context(), self.rows(x.first, x.second), linear,
                                           residual_of(self, into, post_norm, multiplier),
                                           self.rows(out.first, out.second)));
           },
           "out"_a, "x"_a, "linear"_a, "into"_a, "post_norm"_a.none(), "multiplier"_a)
      .def("experts_residual",
           [](Program& self, Value out, Value x, const std::optional<Norm>& norm,
              const ExpertsOp& experts, Value into, const std::optional<Norm>& post_norm,
              float multiplier) {
             self.add(make_experts_residual(self.context(), self.rows(x.first, x.second), norm,
                                            experts, residual_of(self, into, post_norm, multiplier),
                                            self.rows(out.first, out.second)));
           },
           "out"_a, "x"_a, "norm"_a.none(), "experts"_a, "into"_a, "post_norm"_a.none(),
           "multiplier"_a)
      .def("logits",
           [](Program& self, Value out, Value hidden, std::shared_ptr<Linear> head,
              float multiplier, float softcap) {
             self.add(make_logits(self.context(), self.rows(hidden.first, hidden.second), head,
                                  multiplier, softcap, self.logit_rows(out.first, out.second)));
           });
}

void bind_attention_ops(nb::class_<Program>& program) {
  program
      .def("rotary_write",
           [](Program& self, Value out, Value qkv, const AttentionOp& attention,
              std::shared_ptr<RotaryTable> rotary, const std::optional<Norm>& q_norm,
              const std::optional<Norm>& k_norm) {
             self.add(make_rotary_write(self.context(), self.rows(qkv.first, qkv.second), attention,
                                        {rotary, q_norm, k_norm},
                                        self.queries(out.first, out.second)));
           },
           "out"_a, "qkv"_a, "attention"_a, "rotary"_a.none(), "q_norm"_a.none(),
           "k_norm"_a.none())
      .def("pack_blocks",
           [](Program& self, const AttentionOp& attention) {
             require_shape(attention.far != nullptr, "packed blocks and far pages");
             self.add(make_pack_blocks(self.context(), attention));
           })
      .def("attention",
           [](Program& self, Value out, Value queries, AttentionOp attention,
              std::shared_ptr<Vector> sinks) {
             attention.sinks = sinks;
             self.add(make_attention(self.context(), self.queries(queries.first, queries.second),
                                     attention, self.rows(out.first, out.second)));
           },
           "out"_a, "queries"_a, "attention"_a, "sinks"_a.none());
}

void bind_program(nb::module_& m) {
  nb::class_<Program> program(m, "Program");
  program
      .def("__init__",
           [](Program* self, std::shared_ptr<Runtime> runtime, DType dtype,
              std::vector<std::shared_ptr<KVCache>> caches, const std::array<int, 3>& limits,
              const std::vector<std::size_t>& buffer_sizes) {
             new (self) Program(runtime, dtype, caches,
                                {limits[0], limits[1], limits[2]}, buffer_sizes);
           })
      .def("run", &run, "token_ids"_a, "positions"_a, "query_starts"_a, "context_lens"_a,
           "block_tables"_a, "logit_rows"_a, "adapter_ids"_a.none(), "sights"_a, "observed_rows"_a,
           "observed"_a)
      .def("output", &output)
      .def_prop_ro("runs", &Program::runs);
  bind_dense_ops(program);
  bind_attention_ops(program);
}

}  // namespace

void bind_sampling(nb::module_& m);

}  // namespace vivace

NB_MODULE(_native, m) {
  // An interpreter that exits while an engine is alive is no mistake of the user's.
  nanobind::set_leak_warnings(false);
  vivace::bind_enums(m);
  vivace::bind_runtime(m);
  vivace::bind_weights(m);
  vivace::bind_parts_of_ops(m);
  vivace::bind_program(m);
  vivace::bind_sampling(m);
}
