#include "ops/gemm.h"

#include <algorithm>

#include "core/parallel.h"
#include "core/status.h"
#include "ops/layout.h"

namespace engine {

namespace {

// Depth of one pass: a panel of this many rows stays in the second-level cache while the tiles of a
// block of rows run over it.
constexpr int64_t kDepthBlock = 1024;
constexpr int64_t kFlopsPerThread = 1 << 15;

}  // namespace

Activation parse_activation(const char* op, const std::string& name) {
    constexpr std::pair<const char*, Activation> kNames[] = {{"none", Activation::none},
                                                             {"relu", Activation::relu},
                                                             {"relu6", Activation::relu6},
                                                             {"silu", Activation::silu},
                                                             {"hardswish", Activation::hardswish}};
    for (const auto& [known, activation] : kNames)
        if (name == known) return activation;
    fail(Kind::value, "[", op, "] expected activation none, relu, relu6, silu or hardswish, got '",
         name, "'");
}

Panels::Panels(int64_t rows, int64_t columns)
    : rows(rows), columns(columns), lanes(kernels().lanes) {
    const int64_t needed = (columns + lanes - 1) / lanes;
    vectors =
        needed == 3 ? 3 : static_cast<int>(std::min<int64_t>(2, std::max<int64_t>(1, needed)));
}

int64_t Panels::columns_of(int64_t p) const {
    return std::min(full_width(), columns - p * full_width());
}

std::shared_ptr<Workspace> pack_panels(const Panels& panels, const float* source, int64_t row,
                                       int64_t column) {
    auto packed = std::make_shared<Workspace>(panels.bytes());
    float* data = packed->f32();
    const int64_t count = panels.count(), splits = std::max<int64_t>(1, panels.rows / 256);
    const int64_t per_item = panels.rows / splits * panels.full_width();
    parallel_for(count * splits, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, per_item)),
                 [&](int64_t begin, int64_t end, int) {
                     for (int64_t item = begin; item < end; ++item) {
                         const int64_t p = item / splits, s = item % splits;
                         const int64_t first = panels.rows * s / splits,
                                       last = panels.rows * (s + 1) / splits;
                         PackArgs args;
                         args.source = source + first * row + p * panels.full_width() * column;
                         args.source_row = row;
                         args.source_column = column;
                         args.rows = last - first;
                         args.columns = panels.columns_of(p);
                         args.width = panels.width(p);
                         args.panel = data + panels.offset(p) + first * args.width;
                         kernels().pack(args);
                     }
                 });
    return packed;
}

std::shared_ptr<Workspace> pack_weight(const Array& weight, const Panels& panels, int64_t row,
                                       int64_t column, uint64_t tag) {
    // FNV-1a over everything the packing depends on.
    uint64_t key = 1469598103934665603ull;
    for (uint64_t part :
         {tag, static_cast<uint64_t>(weight.offset()), static_cast<uint64_t>(panels.rows),
          static_cast<uint64_t>(panels.columns), static_cast<uint64_t>(panels.full_width()),
          static_cast<uint64_t>(panels.lanes), static_cast<uint64_t>(row),
          static_cast<uint64_t>(column)})
        key = (key ^ part) * 1099511628211ull;
    const float* source = weight.f32();
    return weight.storage()->pack(key, [&] { return pack_panels(panels, source, row, column); });
}

void run_product(const Product& product, const Panels& panels, const float* packed) {
    const int64_t m = product.rows;
    if (m == 0 || product.columns == 0) return;
    const int64_t count = panels.count();
    // Blocks of rows: small enough for eight items, whole multiples of a tile, at most 196 rows so
    // that they stay in cache while the panels pass by.
    const int64_t block = std::min<int64_t>(196, std::max<int64_t>(14, (m / 8 + 13) / 14 * 14));
    const int64_t blocks = (m + block - 1) / block;
    const int64_t flops = 2 * std::min(m, block) * product.depth * panels.full_width();
    parallel_for(
        blocks * count, std::max<int64_t>(1, kFlopsPerThread / std::max<int64_t>(1, flops)),
        [&](int64_t begin, int64_t end, int) {
            const int64_t tap = 0;
            for (int64_t item = begin; item < end; ++item) {
                const int64_t i = item / count, p = item % count;
                const int64_t first = m * i / blocks, last = m * (i + 1) / blocks;
                GemmArgs g{};
                g.a_row = product.a_row;
                g.a_depth = product.a_depth;
                g.taps = &tap;
                g.tap_count = 1;
                g.b_row = panels.width(p);
                g.c = product.c + first * product.c_row + p * panels.full_width();
                g.c_row = product.c_row;
                g.rows = last - first;
                g.columns = panels.columns_of(p);
                g.vectors = panels.vectors_of(p);
                for (int64_t k = 0; k == 0 || k < product.depth; k += kDepthBlock) {
                    g.depth = std::min(kDepthBlock, product.depth - k);
                    g.a = product.a + first * product.a_row + k * product.a_depth;
                    g.b = packed + panels.offset(p) + k * g.b_row;
                    g.accumulate = k > 0;
                    const Epilogue out = product.epilogue.at(first, p * panels.full_width());
                    if (k == 0)
                        g.bias = out.bias;
                    else
                        g.bias = nullptr;
                    if (k + kDepthBlock >= product.depth) {
                        g.residual = out.residual;
                        g.residual_row = out.residual_row;
                        g.activation = out.activation;
                    }
                    kernels().gemm(g);
                }
            }
        });
}

void column_sums(const float* source, int64_t row, int64_t rows, int64_t columns, float* sums) {
    const int64_t chunks = std::max<int64_t>(1, std::min<int64_t>(16, rows * columns / 16384));
    Workspace partial(static_cast<size_t>(chunks * columns) * sizeof(float));
    std::fill_n(partial.f32(), chunks * columns, 0.0f);
    parallel_for(chunks, [&](int64_t begin, int64_t end, int) {
        for (int64_t chunk = begin; chunk < end; ++chunk) {
            const int64_t first = rows * chunk / chunks, last = rows * (chunk + 1) / chunks;
            kernels().column_sum({source + first * row, row, last - first, columns,
                                  partial.f32() + chunk * columns});
        }
    });
    std::fill_n(sums, columns, 0.0f);
    kernels().column_sum({partial.f32(), columns, chunks, columns, sums});
}

namespace {

// Rows and columns of a matrix in an array whose last two axes may have any strides.
struct View {
    const float* data;
    int64_t rows, columns, row, column;
};

View matrix(const Array& a, bool transposed, int64_t offset) {
    const int r = a.rank();
    View v{a.f32() + offset, a.dim(r - 2), a.dim(r - 1), a.stride(r - 2), a.stride(r - 1)};
    if (transposed) {
        std::swap(v.rows, v.columns);
        std::swap(v.row, v.column);
    }
    return v;
}

}  // namespace

Array matmul(const Array& a, const Array& b, bool trans_a, bool trans_b) {
    expect_f32("matmul", "a", a);
    expect_f32("matmul", "b", b);
    ENGINE_CHECK(a.rank() >= 2 && b.rank() >= 2, Kind::value,
                 "[matmul] expected at least 2 axes on both sides, got ", to_string(a.shape()),
                 " and ", to_string(b.shape()));
    const View a0 = matrix(a, trans_a, 0), b0 = matrix(b, trans_b, 0);
    ENGINE_CHECK(a0.columns == b0.rows, Kind::value, "[matmul] expected matching inner sizes, got ",
                 a0.rows, " x ", a0.columns, " times ", b0.rows, " x ", b0.columns, " (shapes ",
                 to_string(a.shape()), " and ", to_string(b.shape()),
                 "): transpose one side or check the layer before");
    Dims batch;
    const int extra = std::max(a.rank(), b.rank()) - 2;
    for (int i = 0; i < extra; ++i) {
        const int ia = i - (extra - (a.rank() - 2)), ib = i - (extra - (b.rank() - 2));
        const int64_t da = ia >= 0 ? a.dim(ia) : 1, db = ib >= 0 ? b.dim(ib) : 1;
        ENGINE_CHECK(da == db || da == 1 || db == 1, Kind::value, "[matmul] batch axes of ",
                     to_string(a.shape()), " and ", to_string(b.shape()), " do not broadcast");
        batch.push_back(da == 1 ? db : da);
    }
    Dims shape = batch;
    shape.push_back(a0.rows);
    shape.push_back(b0.columns);
    // Written row-major; rank 4 is brought to its canonical layout at the end.
    Array out = empty(shape);
    const int64_t rows = a0.rows, columns = b0.columns, batches = numel(batch);
    Array flat = shape.n == 4 ? empty({out.numel()}) : out;
    const Panels panels(a0.columns, columns);
    for (int64_t index = 0; index < batches; ++index) {
        int64_t rest = index, oa = 0, ob = 0;
        for (int i = extra - 1; i >= 0; --i) {
            const int64_t position = rest % batch[i];
            rest /= batch[i];
            const int ia = i - (extra - (a.rank() - 2)), ib = i - (extra - (b.rank() - 2));
            if (ia >= 0 && a.dim(ia) > 1) oa += position * a.stride(ia);
            if (ib >= 0 && b.dim(ib) > 1) ob += position * b.stride(ib);
        }
        const View va = matrix(a, trans_a, oa), vb = matrix(b, trans_b, ob);
        const auto packed = pack_panels(panels, vb.data, vb.row, vb.column);
        Product product{};
        product.rows = rows, product.columns = columns, product.depth = va.columns;
        product.a = va.data, product.a_row = va.row, product.a_depth = va.column;
        product.c = flat.f32() + index * rows * columns, product.c_row = columns;
        run_product(product, panels, packed->f32());
    }
    if (shape.n != 4) return out;
    Dims row_major;
    row_major.n = 4;
    row_major[3] = 1, row_major[2] = columns, row_major[1] = rows * columns,
    row_major[0] = batch[1] * rows * columns;
    return contiguous(flat.view(shape, row_major, 0));
}

namespace {

// x with all but the last axis merged, copied only when its rows have no common distance.
Array as_rows(const Array& x) {
    Dims shape{x.rank() == 1 ? 1 : -1, x.dim(x.rank() - 1)};
    if (x.numel() == 0) shape[0] = x.dim(x.rank() - 1) ? 0 : numel(x.shape());
    if (x.rank() == 2) return x;
    return reshape(x, shape);
}

void check_linear(const char* op, const Array& x, const Array& w) {
    expect_f32(op, "input", x);
    expect_f32(op, "weight", w);
    expect_rank(op, "weight", w, 2);
    ENGINE_CHECK(x.rank() >= 1, Kind::value, "[", op,
                 "] expected an input with at least one axis, got a scalar");
}

}  // namespace

Array linear(const Array& x, const Array& w, const Array* bias) {
    check_linear("linear", x, w);
    const int64_t depth = w.dim(1), outputs = w.dim(0);
    ENGINE_CHECK(x.dim(x.rank() - 1) == depth, Kind::value, "[linear] expected ", depth,
                 " input features, got input of shape ", to_string(x.shape()),
                 ": set in_features=", x.dim(x.rank() - 1), " or check the layer before");
    if (bias) {
        expect_f32("linear", "bias", *bias);
        ENGINE_CHECK(bias->rank() == 1 && bias->dim(0) == outputs, Kind::value,
                     "[linear] expected a bias of shape (", outputs, ",), got ",
                     to_string(bias->shape()));
    }
    const Array rows = as_rows(x);
    Dims shape = x.shape();
    shape[shape.n - 1] = outputs;
    Array out = empty({rows.dim(0), outputs});
    const Array dense_bias = bias ? contiguous(*bias) : Array();
    const Panels panels(depth, outputs);
    const auto packed = pack_weight(w, panels, w.stride(1), w.stride(0), 1);
    Product product{};
    product.rows = rows.dim(0), product.columns = outputs, product.depth = depth;
    product.a = rows.f32(), product.a_row = rows.stride(0), product.a_depth = rows.stride(1);
    product.c = out.f32(), product.c_row = outputs;
    product.epilogue.bias = bias ? dense_bias.f32() : nullptr;
    run_product(product, panels, packed->f32());
    return x.rank() == 2 ? out : contiguous(reshape(out, shape));
}

Array linear_backward_data(const Array& dy, const Array& w) {
    check_linear("linear_backward_data", dy, w);
    const int64_t depth = w.dim(0), inputs = w.dim(1);
    ENGINE_CHECK(dy.dim(dy.rank() - 1) == depth, Kind::value, "[linear_backward_data] expected ",
                 depth, " output features, got gradient of shape ", to_string(dy.shape()));
    const Array rows = as_rows(dy);
    Dims shape = dy.shape();
    shape[shape.n - 1] = inputs;
    Array out = empty({rows.dim(0), inputs});
    const Panels panels(depth, inputs);
    const auto packed = pack_weight(w, panels, w.stride(0), w.stride(1), 2);
    Product product{};
    product.rows = rows.dim(0), product.columns = inputs, product.depth = depth;
    product.a = rows.f32(), product.a_row = rows.stride(0), product.a_depth = rows.stride(1);
    product.c = out.f32(), product.c_row = inputs;
    run_product(product, panels, packed->f32());
    return dy.rank() == 2 ? out : contiguous(reshape(out, shape));
}

std::pair<Array, std::optional<Array>> linear_backward_weight(const Array& dy, const Array& x,
                                                              bool with_bias) {
    expect_f32("linear_backward_weight", "gradient", dy);
    expect_f32("linear_backward_weight", "input", x);
    const Array grad = contiguous(as_rows(dy)), rows = as_rows(x);
    ENGINE_CHECK(grad.dim(0) == rows.dim(0), Kind::value,
                 "[linear_backward_weight] expected equally many rows, got gradient ",
                 to_string(dy.shape()), " and input ", to_string(x.shape()));
    const int64_t outputs = grad.dim(1), inputs = rows.dim(1), depth = rows.dim(0);
    Array dw = empty({outputs, inputs});
    const Panels panels(depth, inputs);
    const auto packed = pack_panels(panels, rows.f32(), rows.stride(0), rows.stride(1));
    Product product{};
    product.rows = outputs, product.columns = inputs, product.depth = depth;
    product.a = grad.f32(), product.a_row = 1, product.a_depth = outputs;
    product.c = dw.f32(), product.c_row = inputs;
    run_product(product, panels, packed->f32());
    if (!with_bias) return {dw, std::nullopt};
    Array db = empty({outputs});
    column_sums(grad.f32(), outputs, depth, outputs, db.f32());
    return {dw, db};
}

}  // namespace engine
