// Embedding, norms, linear layers and logits.
#include "matmul.hpp"
#include "ops.hpp"

namespace vivace {
namespace {

class Embed final : public Op {
 public:
  Embed(const EmbedOp& op, Rows out) : op_(op), out_(out) {
    require_shape(op.tokens->width == out.width, "an embedding and its rows");
    require_shape(!op.positions || op.positions->width == out.width, "positions and tokens");
  }

  void run(const Frame& frame) const override {
    const Batch& batch = frame.batch;
    for_rows(frame.runtime, batch.rows(), out_.width, [&](int row, unsigned) {
      const TableRow token = op_.tokens->row(batch.token_ids[row]);
      const TableRow position =
          op_.positions ? op_.positions->row(batch.positions[row]) : TableRow();
      frame.runtime.kernels.rows.embed(token, position, op_.multiplier, out_.width,
                                       out_.row(row));
    });
  }

  void narrow(BatchBounds& bounds) const override {
    bounds.vocab_size = std::min(bounds.vocab_size, op_.tokens->rows);
    if (op_.positions) bounds.positions = std::min(bounds.positions, op_.positions->rows);
  }

 private:
  EmbedOp op_;
  Rows out_;
};

class Normalize final : public Op {
 public:
  Normalize(Rows x, const Norm& norm, Rows out) : x_(x), norm_(norm), out_(out) {
    require_shape(norm.width() == x.width && x.width == out.width, "a norm and its rows");
  }

  void run(const Frame& frame) const override {
    for_rows(frame.runtime, frame.batch.rows(), x_.width, [&](int row, unsigned) {
      frame.runtime.kernels.rows.normalize(x_.row(row), norm_.task(), out_.row(row));
    });
  }

 private:
  Rows x_;
  Norm norm_;
  Rows out_;
};

class NormLinear final : public Op {
 public:
  NormLinear(const OpContext& context, Rows x, const std::optional<Norm>& norm,
             const LinearPtr& linear, const std::optional<ActivationTask>& activation, Rows out)
      : x_(x),
        packer_(context, layout_, *linear, norm, context.max_rows),
        linear_(linear),
        adapters_(context, layout_, linear, norm),
        activation_(activation),
        out_(out) {
    require_shape(linear->k() == x.width, "a linear layer's inputs");
    const bool gated = activation && activation->gated;
    require_shape(linear->matrix.gated == gated, "gated weights and their activation");
    require_shape(linear->n() == out.width * (gated ? 2 : 1), "a linear layer's outputs");
    if (activation && adapters_.has_room()) {
      sums_ = layout_.take<float>(std::size_t(context.max_rows) * linear->n());
    }
  }

  void run(const Frame& frame) const override {
    const int rows = frame.batch.rows();
    const PackedRows packed = packer_.pack(frame, rows, [&](int row) { return x_.row(row); });
    if (adapters_.applies(frame)) return add_adapters(frame, packed);
    multiply(frame.runtime,
             {.weights = linear_->matrix,
              .rows = packed,
              .out = out_.data,
              .out_stride = out_.width,
              .activation = activation_ ? &*activation_ : nullptr},
             frame.next);
  }

  Reads reads() const override { return linear_->reads(); }
  void narrow(BatchBounds& bounds) const override { adapters_.narrow(bounds); }

 private:
  // Adapters come before the activation: the sums stand apart until then.
  void add_adapters(const Frame& frame, const PackedRows& packed) const {
    const Rows sums = activation_ ? Rows{sums_.in(frame.scratch), linear_->n()} : out_;
    multiply(frame.runtime,
             {.weights = linear_->matrix,
              .rows = packed,
              .out = sums.data,
              .out_stride = sums.width},
             frame.next);
    const auto finish = [&](int row) {
      if (!activation_) return;
      frame.runtime.kernels.rows.activate(sums.row(row), *activation_, out_.width, out_.row(row));
    };
    adapters_.add(frame, x_, sums, 1.0f, finish);
    for_rows(frame.runtime, packed.m, out_.width, [&](int row, unsigned) {
      if (!adapters_.applies(frame, row)) finish(row);
    });
  }

  Rows x_;
  RowPacker packer_;
  LinearPtr linear_;
  AdapterSum adapters_;
  std::optional<ActivationTask> activation_;
  Rows out_;
  Scratch<float> sums_;
};

class LinearResidual final : public Op {
 public:
  LinearResidual(const OpContext& context, Rows x, const LinearPtr& linear,
                 const Residual& residual, Rows out)
      : x_(x),
        packer_(context, layout_, *linear, std::nullopt, context.max_rows),
        linear_(linear),
        adapters_(context, layout_, linear, std::nullopt),
        residual_(residual),
        out_(out) {
    require_shape(linear->k() == x.width, "a linear layer's inputs");
    require_shape(linear->n() == out.width && residual.into.width == out.width, "a residual");
    require_shape(!residual.post_norm || residual.post_norm->width() == out.width, "a post-norm");
    if (residual.post_norm) {
      product_ = layout_.take<float>(std::size_t(context.max_rows) * out.width);
    }
  }

  void run(const Frame& frame) const override {
    const int rows = frame.batch.rows();
    const PackedRows packed = packer_.pack(frame, rows, [&](int row) { return x_.row(row); });
    if (residual_.post_norm) return add_normed(frame, packed);
    multiply(frame.runtime,
             {.weights = linear_->matrix,
              .rows = packed,
              .out = out_.data,
              .out_stride = out_.width,
              .residual = residual_.into.data,
              .residual_stride = residual_.into.width,
              .multiplier = residual_.multiplier},
             frame.next);
    adapters_.add(frame, x_, out_, residual_.multiplier, [](int) {});
  }

  Reads reads() const override { return linear_->reads(); }
  void narrow(BatchBounds& bounds) const override { adapters_.narrow(bounds); }

 private:
  void add_normed(const Frame& frame, const PackedRows& packed) const {
    const Rows product{product_.in(frame.scratch), out_.width};
    multiply(frame.runtime,
             {.weights = linear_->matrix,
              .rows = packed,
              .out = product.data,
              .out_stride = product.width},
             frame.next);
    adapters_.add(frame, x_, product, 1.0f, [](int) {});
    const RowKernels& kernels = frame.runtime.kernels.rows;
    for_rows(frame.runtime, packed.m, out_.width, [&](int row, unsigned) {
      float* const y = product.row(row);
      kernels.normalize(y, residual_.post_norm->task(), y);
      kernels.add(residual_.into.row(row), y, residual_.multiplier, out_.width, out_.row(row));
    });
  }

  Rows x_;
  RowPacker packer_;
  LinearPtr linear_;
  AdapterSum adapters_;
  Residual residual_;
  Rows out_;
  Scratch<float> product_;
};

class Logits final : public Op {
 public:
  Logits(const OpContext& context, Rows hidden, const LinearPtr& head, float multiplier,
         float softcap, Rows out)
      : hidden_(hidden),
        packer_(context, layout_, *head, std::nullopt, context.max_logit_rows),
        head_(head),
        multiplier_(multiplier),
        softcap_(softcap),
        out_(out) {
    require_shape(head->k() == hidden.width && head->n() == out.width, "the head and its rows");
  }

  void run(const Frame& frame) const override {
    const Ints logit_rows = frame.batch.logit_rows;
    const int rows = static_cast<int>(logit_rows.size());
    if (rows == 0) return;
    const PackedRows packed =
        packer_.pack(frame, rows, [&](int row) { return hidden_.row(logit_rows[row]); });
    multiply(frame.runtime,
             {.weights = head_->matrix,
              .rows = packed,
              .out = out_.data,
              .out_stride = out_.width},
             frame.next);
    if (multiplier_ == 1.0f && softcap_ == 0.0f) return;
    for_rows(frame.runtime, rows, out_.width, [&](int row, unsigned) {
      frame.runtime.kernels.rows.cap(out_.row(row), multiplier_, softcap_, out_.width);
    });
  }

  Reads reads() const override { return head_->reads(); }

 private:
  Rows hidden_;
  RowPacker packer_;
  LinearPtr head_;
  float multiplier_;
  float softcap_;
  Rows out_;
};

}  // namespace

OpPtr make_embed(const EmbedOp& op, Rows out) { return std::make_unique<Embed>(op, out); }

OpPtr make_norm(Rows x, const Norm& norm, Rows out) {
  return std::make_unique<Normalize>(x, norm, out);
}

OpPtr make_norm_linear(const OpContext& context, Rows x, const std::optional<Norm>& norm,
                       const LinearPtr& linear, const std::optional<ActivationTask>& activation,
                       Rows out) {
  return std::make_unique<NormLinear>(context, x, norm, linear, activation, out);
}

OpPtr make_linear_residual(const OpContext& context, Rows x, const LinearPtr& linear,
                           const Residual& residual, Rows out) {
  return std::make_unique<LinearResidual>(context, x, linear, residual, out);
}

OpPtr make_logits(const OpContext& context, Rows hidden, const LinearPtr& head, float multiplier,
                  float softcap, Rows out) {
  return std::make_unique<Logits>(context, hidden, head, multiplier, softcap, out);
}

}  // namespace vivace
