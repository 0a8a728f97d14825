#include "ops/gemm.h"

#include <algorithm>
#include <cstring>

#include "core/parallel.h"
#include "core/status.h"
#include "ops/layout.h"
#include "ops/split.h"

namespace engine {

namespace {

// Depth of one pass: a panel of this many rows stays in the second-level cache while the tiles of a
// block of rows run over it.
constexpr int64_t kDepthBlock = 1024;
// A block of rows behind a prologue: half of a second-level cache of 256 KiB.
constexpr int64_t kPrologueFloats = 1 << 15;

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

// Tiles of two vectors have the most rows and so read the fewest bytes of b; those of four read a
// only half as often.
Panels::Panels(int64_t rows, int64_t columns, Tiles tiles)
    : rows(rows), columns(columns), lanes(kernels().lanes) {
    const int64_t needed = (columns + lanes - 1) / lanes;
    vectors =
        needed == 3 ? 3 : static_cast<int>(std::min<int64_t>(2, std::max<int64_t>(1, needed)));
    if (tiles == Tiles::wide && kernels().tile_rows[3] >= 6 && needed > 3) vectors = 4;
    if (tiles == Tiles::three && needed > 3) vectors = 3;
}

// Short tiles leave the multiply-add units waiting for sums and for panels: then they are wider.
Panels::Tiles Panels::tiles_of_lines(int64_t length) {
    const int64_t most = kernels().tile_rows[1], tiles = (length + most - 1) / most;
    return 5 * length < 4 * most * tiles ? Tiles::three : Tiles::tall;
}

int64_t Panels::columns_of(int64_t p) const {
    return std::min(full_width(), columns - p * full_width());
}

void multiply_panels(const float* a, int64_t a_row, int64_t rows, const Panels& panels,
                     const float* packed, float* c, int64_t c_row) {
    const int64_t tap = 0;
    GemmArgs g{};
    g.a = a;
    g.a_row = a_row;
    g.a_depth = 1;
    g.taps = &tap;
    g.tap_count = 1;
    g.depth = panels.rows;
    g.c_row = c_row;
    g.rows = rows;
    for (int64_t p = 0; p < panels.count(); ++p) {
        g.b = packed + panels.offset(p);
        g.b_row = panels.width(p);
        g.c = c + p * panels.full_width();
        g.columns = panels.columns_of(p);
        g.vectors = panels.vectors_of(p);
        kernels().gemm(g);
    }
}

std::shared_ptr<Workspace> pack_panels(const Panels& panels, const float* source, int64_t row,
                                       int64_t column) {
    auto packed = std::make_shared<Workspace>(panels.bytes());
    float* data = packed->f32();
    const int64_t count = panels.count(), splits = std::max<int64_t>(1, panels.rows / 256);
    const int64_t per_item = panels.rows / splits * panels.full_width();
    parallel_for(count * splits, grain_of(per_item), [&](int64_t begin, int64_t end, int) {
        for (int64_t item = begin; item < end; ++item) {
            const int64_t p = item / splits, s = item % splits;
            const int64_t first = panels.rows * s / splits, last = panels.rows * (s + 1) / splits;
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

void Prologue::apply(const float* src, int64_t src_ld, int64_t channels, int64_t pixels,
                     float* dst) const {
    ChannelAffineArgs a{};
    a.src = src, a.dst = dst;
    a.src_ld = src_ld, a.dst_ld = channels, a.channels = channels, a.pixels = pixels;
    a.mean = zeros, a.scale = scale, a.shift = shift;
    a.activation = activation;
    kernels().channel_affine(a);
}

void run_product(const Product& product, const Panels& panels, const float* packed) {
    const int64_t m = product.rows;
    if (m == 0 || product.columns == 0) return;
    const int64_t count = panels.count();
    // Blocks of rows: small enough for eight items, whole multiples of a tile, at most 196 rows so
    // that they stay in cache while the panels pass by. Few rows are not cut where the panels give
    // items enough: every block reads all weights.
    int64_t block = std::min<int64_t>(196, std::max<int64_t>(14, (m * count / 8 + 13) / 14 * 14));
    // Rows that pass a prologue wait in scratch for all panels.
    const Prologue* prologue = product.prologue;
    if (prologue)
        block = std::min(block, std::max<int64_t>(14, kPrologueFloats / product.depth / 14 * 14));
    const int64_t own_floats = prologue ? block * product.depth : 0;
    Workspace scratch(static_cast<size_t>(num_threads() * own_floats) * sizeof(float));
    const int64_t blocks = (m + block - 1) / block;
    const int64_t flops = 2 * std::min(m, block) * product.depth * panels.full_width();
    const bool stream =
        product.epilogue.in_registers() && streams(product.c, product.c_row, m, product.columns);
    parallel_for(blocks * count, product_grain(flops), [&](int64_t begin, int64_t end, int thread) {
        const int64_t tap = 0;
        int64_t in_scratch = -1;  // the block that is there
        for (int64_t item = begin; item < end; ++item) {
            const int64_t i = item / count, p = item % count;
            const int64_t first = m * i / blocks, last = m * (i + 1) / blocks;
            const float* a = product.a + first * product.a_row;
            if (prologue) {
                float* own = scratch.f32() + thread * own_floats;
                if (in_scratch != i)
                    prologue->apply(a, product.a_row, product.depth, last - first, own);
                in_scratch = i, a = own;
            }
            GemmArgs g{};
            g.a_row = prologue ? product.depth : product.a_row;
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
                g.a = a + k * product.a_depth;
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
                    g.stream = stream && k == 0;
                }
                kernels().gemm(g);
            }
        }
    });
}

void run_product(const Product& product, const Array& weight, int64_t row, int64_t column,
                 uint64_t tag) {
    if (product.a_depth == 1 && (row == 1 || column == 1) &&
        takes_split(product.rows, product.columns, 1, product.depth)) {
        const SplitFactor factor =
            split_weight(weight, {0}, product.depth, product.columns, row, column);
        const auto rows = [&](int64_t, int64_t first, int64_t count, const float** pointers) {
            for (int64_t i = 0; i < count; ++i)
                pointers[i] = product.a + (first + i) * product.a_row;
        };
        if (run_split(product.rows, rows, factor, product.c, product.c_row, product.epilogue,
                      product.prologue))
            return;
    }
    const Panels panels(product.depth, product.columns, Panels::Tiles::wide);
    const auto packed = pack_weight(weight, panels, row, column, tag);
    run_product(product, panels, packed->f32());
}

namespace {

// Rows of a block: as many pointers lie on the stack.
constexpr int64_t kBlockRows = 512;

// Columns [low, high) of rows [first, first + count), all taps counted, as panels of `width`
// columns, `room` rows each: laid out in `panels`, or where they are if they lie like a panel.
const float* gather(const RightRows& b, int64_t first, int64_t count, int64_t low, int64_t high,
                    int64_t width, int64_t room, float* panels) {
    const float* rows[kBlockRows];
    for (int64_t tap = low / b.columns, at = low; at < high; ++tap) {
        b.pointers(tap, first, count, rows);
        if (b.columns == width && high - low == width) {
            int64_t i = 1;
            while (i < count && rows[i] == rows[0] + i * width) ++i;
            if (i == count) return rows[0];
        }
        for (const int64_t end = std::min(high, (tap + 1) * b.columns); at < end;) {
            const int64_t panel = (at - low) / width, in_panel = (at - low) % width;
            const int64_t columns = std::min(end - at, width - in_panel);
            kernels().gather({rows, count, at - tap * b.columns, columns,
                              panels + panel * room * width + in_panel, width});
            at += columns;
        }
    }
    return panels;
}

}  // namespace

RightRows RightRows::dense(const float* data, int64_t columns, int64_t row) {
    return {[=](int64_t, int64_t first, int64_t count, const float** pointers) {
                for (int64_t i = 0; i < count; ++i) pointers[i] = data + (first + i) * row;
            },
            1, columns};
}

void transposed_product(const LeftRows& a, const RightRows& b, int64_t depth, float* c,
                        float* sums) {
    if (takes_split_transposed(a.columns, b.taps, b.columns, depth) &&
        run_split_transposed(RightRows::dense(a.data, a.columns, a.row).pointers, a.columns,
                             b.pointers, b.taps, b.columns, depth, c)) {
        if (sums) column_sums(a.data, a.row, depth, a.columns, sums);
        return;
    }
    transposed_product_on_vectors(a, b, depth, c, sums);
}

// Blocks of rows of both operands are copied into the thread's scratch: those of b as panels, each
// of which stays in the first-level cache while the tiles of a run over it; those of a at a pitch
// that is no power of two, as rows 1 KiB apart would fight for the same sets of that cache. Short
// rows do not, and stay where they are.
void transposed_product_on_vectors(const LeftRows& a, const RightRows& b, int64_t depth, float* c,
                                   float* sums) {
    const int64_t m = a.columns, n = b.taps * b.columns, lanes = kernels().lanes;
    if (m == 0 || n == 0) return;
    const Panels panels(1, n, Panels::Tiles::wide);
    const int64_t width = panels.full_width();
    const int64_t block = std::min(kBlockRows, (int64_t{24} << 10) / (width * 4));
    // Few results: each part of the rows has results of its own, added in order afterwards.
    const int64_t parts = std::max<int64_t>(
        1, std::min({int64_t{8}, depth / (2 * block), (int64_t{1} << 19) / (m * n)}));
    // Many: the parts share the results. The wider side is cut, so that less is copied twice.
    const bool cut_m = m >= n;
    const int64_t pieces = cut_m ? (m + 15) / 16 : panels.count();
    const int64_t work = 2 * m * n * depth / (int64_t{1} << 15);  // in steps of 32k operations
    const int64_t shares =
        std::max<int64_t>(1, std::min({(8 + parts - 1) / parts, pieces, work / parts}));
    const auto cut = [&](int64_t share) {
        return cut_m ? std::min(m, pieces * share / shares * 16)
                     : std::min(n, pieces * share / shares * width);
    };
    int64_t a_columns = m, b_columns = n;  // of the largest share
    (cut_m ? a_columns : b_columns) = (pieces + shares - 1) / shares * (cut_m ? 16 : width);
    const int64_t a_pitch = (a_columns + lanes - 1) / lanes * lanes + 16;
    const bool in_place = a.row <= 64;
    const int64_t b_floats = (b_columns + width - 1) / width * width * block;
    const int64_t own_floats = block * a_pitch + b_floats;
    Workspace scratch(static_cast<size_t>(num_threads() * own_floats) * sizeof(float));
    Workspace more(static_cast<size_t>((parts - 1) * m * n + parts * m) * sizeof(float));
    float* part_sums = more.f32() + (parts - 1) * m * n;
    std::fill_n(part_sums, parts * m, 0.0f);
    if (depth == 0) std::fill_n(c, m * n, 0.0f);

    parallel_for(parts * shares, [&](int64_t begin, int64_t end, int thread) {
        float* a_block = scratch.f32() + thread * own_floats;
        float* b_block = a_block + block * a_pitch;
        const int64_t tap = 0;
        for (int64_t item = begin; item < end; ++item) {
            const int64_t part = item / shares, share = item % shares;
            const int64_t low = cut(share), high = cut(share + 1);
            const int64_t m0 = cut_m ? low : 0, m1 = cut_m ? high : m;
            const int64_t n0 = cut_m ? 0 : low, n1 = cut_m ? n : high;
            float* target = part == 0 ? c : more.f32() + (part - 1) * m * n;
            const int64_t first = depth * part / parts, last = depth * (part + 1) / parts;
            for (int64_t p = first; p < last; p += block) {
                const int64_t count = std::min(block, last - p);
                const float* rows = a.data + p * a.row + m0;
                if (!in_place)
                    kernels().copy_rows({reinterpret_cast<const char*>(rows),
                                         reinterpret_cast<char*>(a_block), a.row * 4, a_pitch * 4,
                                         (m1 - m0) * 4, count, false});
                const float* right = gather(b, p, count, n0, n1, width, block, b_block);
                GemmArgs g{};
                g.a = in_place ? rows : a_block;
                g.a_row = 1;
                g.a_depth = in_place ? a.row : a_pitch;
                if (sums && n0 == 0)
                    kernels().column_sum(
                        {g.a, g.a_depth, count, m1 - m0, part_sums + part * m + m0});
                g.taps = &tap;
                g.tap_count = 1;
                g.depth = count;
                g.b_row = width;
                g.c_row = n;
                g.rows = m1 - m0;
                g.accumulate = p > first;
                for (int64_t j = n0; j < n1; j += width) {
                    g.b = right + (j - n0) * block;
                    g.c = target + m0 * n + j;
                    g.columns = std::min(width, n1 - j);
                    g.vectors = static_cast<int32_t>((g.columns + lanes - 1) / lanes);
                    kernels().gemm(g);
                }
            }
        }
    });
    if (sums) std::fill_n(sums, m, 0.0f);
    if (sums) kernels().column_sum({part_sums, m, parts, m, sums});
    if (parts == 1) return;
    parallel_for(m, grain_of(n), [&](int64_t begin, int64_t end, int) {
        kernels().column_sum(
            {more.f32() + begin * n, m * n, parts - 1, (end - begin) * n, c + begin * n});
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

namespace {

// Large weights that few rows meet: packing would read and write several times what is computed on,
// so the weights themselves are the operand that is read where it lies.
bool weights_in_place(const Array& w, int64_t rows) {
    return rows > 0 && rows <= 64 && w.numel() >= (int64_t{1} << 18) && w.stride(1) == 1 &&
           w.stride(0) == w.dim(1);
}

// A matrix of few rows as [columns][rows].
std::shared_ptr<Workspace> transposed(const Array& a) {
    const int64_t rows = a.dim(0), columns = a.dim(1);
    auto out = std::make_shared<Workspace>(static_cast<size_t>(rows * columns) * sizeof(float));
    parallel_for((columns + 255) / 256, [&](int64_t begin, int64_t end, int) {
        const int64_t first = begin * 256, last = std::min(columns, end * 256);
        kernels().pack({a.f32() + first * a.stride(1), a.stride(1), a.stride(0), last - first, rows,
                        out->f32() + first * rows, rows});
    });
    return out;
}

// out = activation(x w^T + bias), the product as the transpose of w x^T.
void linear_in_place(const Array& x, const Array& w, const float* bias, Activation activation,
                     const Array& out) {
    const int64_t rows = x.dim(0), depth = w.dim(1), outputs = w.dim(0);
    const Panels panels(depth, rows, Panels::Tiles::wide);
    const auto packed = pack_panels(panels, x.f32(), x.stride(1), x.stride(0));
    const Array turned = empty({outputs, rows});
    Product product{};
    product.rows = outputs, product.columns = rows, product.depth = depth;
    product.a = w.f32(), product.a_row = depth, product.a_depth = 1;
    product.c = turned.f32(), product.c_row = rows;
    run_product(product, panels, packed->f32());
    kernels().pack({turned.f32(), 1, rows, rows, outputs, out.f32(), outputs});
    if (bias || activation != Activation::none)
        kernels().finish(
            {out.f32(), outputs, rows, outputs, nullptr, 0, activation, nullptr, bias});
}

// Few rows wait for the weights, which come from memory once and are not worth a packed copy.
bool meets_few_rows(const Array& x, const Array& w) {
    return x.dim(0) > 0 && x.dim(0) <= kMaxDotRows && x.stride(1) == 1 && w.stride(1) == 1;
}

void linear_by_rows(const Array& x, const Array& w, const float* bias, Activation activation,
                    const Array& out) {
    const int64_t rows = x.dim(0), depth = w.dim(1), outputs = w.dim(0);
    // Memory decides: at a quarter of the speed of a product.
    parallel_for(outputs, product_grain(8 * rows * depth), [&](int64_t begin, int64_t end, int) {
        float* y = out.f32() + begin;
        kernels().dot_rows({x.f32(), x.stride(0), rows, w.f32() + begin * w.stride(0), w.stride(0),
                            end - begin, depth, y, outputs});
        if (bias || activation != Activation::none)
            kernels().finish({y, outputs, rows, end - begin, nullptr, 0, activation, nullptr,
                              bias ? bias + begin : nullptr});
    });
}

}  // namespace

Array linear(const Array& x, const Array& w, const Array* bias, Activation activation) {
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
    const float* added = bias ? dense_bias.f32() : nullptr;
    if (meets_few_rows(rows, w)) {
        linear_by_rows(rows, w, added, activation, out);
    } else if (weights_in_place(w, rows.dim(0))) {
        linear_in_place(rows, w, added, activation, out);
    } else {
        Product product{};
        product.rows = rows.dim(0), product.columns = outputs, product.depth = depth;
        product.a = rows.f32(), product.a_row = rows.stride(0), product.a_depth = rows.stride(1);
        product.c = out.f32(), product.c_row = outputs;
        product.epilogue.bias = added;
        product.epilogue.activation = activation;
        run_product(product, w, w.stride(1), w.stride(0), 1);
    }
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
    if (weights_in_place(w, rows.dim(0))) {
        const auto turned = transposed(rows);
        transposed_product({turned->f32(), rows.dim(0), rows.dim(0)},
                           RightRows::dense(w.f32(), inputs, inputs), depth, out.f32(), nullptr);
        return dy.rank() == 2 ? out : contiguous(reshape(out, shape));
    }
    Product product{};
    product.rows = rows.dim(0), product.columns = inputs, product.depth = depth;
    product.a = rows.f32(), product.a_row = rows.stride(0), product.a_depth = rows.stride(1);
    product.c = out.f32(), product.c_row = inputs;
    run_product(product, w, w.stride(0), w.stride(1), 2);
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
    std::optional<Array> db;
    if (with_bias) db = empty({outputs});
    const Array source = contiguous(rows);
    transposed_product({grad.f32(), outputs, outputs},
                       RightRows::dense(source.f32(), inputs, inputs), depth, dw.f32(),
                       db ? db->f32() : nullptr);
    return {dw, db};
}

}  // namespace engine
