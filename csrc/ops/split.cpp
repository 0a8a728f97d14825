#include "ops/split.h"

#include <algorithm>
#include <atomic>
#include <numeric>

#include "core/parallel.h"
#include "dispatch/table.h"

namespace engine {

namespace {

// A block of rows, and the part of the right factor that it meets: it stays in the second-level
// cache.
constexpr int64_t kBlockPanels = 8;
constexpr int64_t kRightBytes = int64_t{800} << 10;
// Steps of the depth that one pass takes: two panels of the left factor are 192 KiB.
constexpr int64_t kPassSteps = 16;
// Of a transposed product: a block of the left factor, and the next one, are 768 KiB.
constexpr int64_t kPassDepth = 8 * kSplitDepth;

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

enum class Switch { unset, off, on };
std::atomic<Switch> split_switch{Switch::unset};

char* at_offset(const Workspace& workspace, int64_t offset) {
    return static_cast<char*>(workspace.data()) + offset;
}

}  // namespace

bool SplitFactor::finite() const { return *reinterpret_cast<const int32_t*>(panel(count())) == 0; }

bool split_products() {
    const Switch now = split_switch;
    return now == Switch::unset ? kernels().split_products : now == Switch::on;
}

void set_split_products(std::optional<bool> on) {
    split_switch = !on ? Switch::unset : *on ? Switch::on : Switch::off;
}

int64_t equal_shares(int64_t items) {
    const int64_t threads = num_threads();
    return items >= 8 && items >= threads ? 1 : threads / std::gcd(items, threads);
}

double split_use(int64_t size) {
    return static_cast<double>(size) / static_cast<double>(round_up(size, kSplitLines));
}

bool takes_split(int64_t rows, int64_t columns, int64_t taps, int64_t tap_depth, bool split_once) {
    // Tiles multiply 2.6 times as fast as vectors, but few columns do not pay for splitting the
    // left factor.
    return split_products() && rows >= kSplitLines && columns >= (split_once ? 32 : 96) &&
           split_use(rows) * split_use(columns) * split_use(tap_depth) > 0.5 &&
           2 * rows * columns * taps * tap_depth >= (int64_t{1} << 20);
}

bool takes_split_transposed(int64_t m, int64_t taps, int64_t columns, int64_t depth) {
    return split_products() && m >= 64 && columns >= kSplitLines && depth >= 2 * kSplitDepth &&
           split_use(m) * split_use(columns) > 0.5 &&
           2 * m * columns * taps * depth >= (int64_t{1} << 20);
}

SplitFactor split_factor(const float* source, const std::vector<int64_t>& taps, int64_t tap_depth,
                         int64_t columns, int64_t row, int64_t column) {
    SplitFactor f{columns, static_cast<int64_t>(taps.size()), tap_depth, nullptr};
    f.data = std::make_shared<Workspace>(static_cast<size_t>(f.count()) * f.panel_bytes() + 64);
    std::atomic<int32_t> spoiled{0};
    // By depth, a piece of the depth at a time: its pointers lie on the stack.
    constexpr int64_t kPiece = 128;
    const bool by_depth = row != 1;
    const int64_t pieces = (tap_depth + kPiece - 1) / kPiece;
    parallel_for(f.count() * f.taps, std::max<int64_t>(1, 512 / tap_depth),
                 [&](int64_t begin, int64_t end, int) {
                     int32_t bad = 0;
                     const float* rows[kPiece];
                     for (int64_t item = begin; item < end; ++item) {
                         const int64_t p = item / f.taps, t = item % f.taps;
                         const float* first =
                             source + taps[static_cast<size_t>(t)] + p * kSplitLines * column;
                         char* panel =
                             const_cast<char*>(f.panel(p)) + t * f.tap_steps() * kSplitStep;
                         SplitArgs args{rows, 0, 0, by_depth, true, panel, &bad};
                         if (!by_depth) {
                             args.count = f.columns_of(p);
                             args.length = tap_depth;
                             for (int64_t l = 0; l < args.count; ++l) rows[l] = first + l * column;
                             kernels().split(args);
                             continue;
                         }
                         args.length = f.columns_of(p);
                         for (int64_t piece = 0; piece < pieces; ++piece) {
                             args.count = std::min(kPiece, tap_depth - piece * kPiece);
                             for (int64_t k = 0; k < args.count; ++k)
                                 rows[k] = first + (piece * kPiece + k) * row;
                             args.panel = panel + piece * (kPiece / kSplitDepth) * kSplitStep;
                             kernels().split(args);
                         }
                     }
                     if (bad) spoiled = 1;
                 });
    *reinterpret_cast<int32_t*>(const_cast<char*>(f.panel(f.count()))) = spoiled;
    return f;
}

SplitFactor split_weight(const Array& weight, const std::vector<int64_t>& taps, int64_t tap_depth,
                         int64_t columns, int64_t row, int64_t column) {
    uint64_t key = 1469598103934665603ull;  // FNV-1a over everything the factor depends on
    const auto mix = [&](int64_t part) {
        key = (key ^ static_cast<uint64_t>(part)) * 1099511628211ull;
    };
    for (int64_t part : {int64_t{0x5b117}, weight.offset(), tap_depth, columns, row, column})
        mix(part);
    for (int64_t tap : taps) mix(tap);
    SplitFactor f{columns, static_cast<int64_t>(taps.size()), tap_depth, nullptr};
    f.data = weight.storage()->pack(key, [&] {
        return split_factor(weight.f32(), taps, tap_depth, columns, row, column).data;
    });
    return f;
}

bool run_split(int64_t rows, const RowPointers& left, const SplitFactor& right, float* c,
               int64_t c_row, const Epilogue& epilogue, const Prologue* prologue) {
    if (!right.finite()) return false;
    const int64_t panels = (rows + kSplitLines - 1) / kSplitLines, columns = right.count();
    // A pass takes some whole taps, or a part of one.
    const int64_t tap_steps = right.tap_steps();
    const int64_t pass_taps = std::max<int64_t>(1, std::min(right.taps, kPassSteps / tap_steps));
    const int64_t tap_parts = (tap_steps + kPassSteps - 1) / kPassSteps;
    const int64_t part_steps = (tap_steps + tap_parts - 1) / tap_parts;
    const int64_t pass_steps = pass_taps * part_steps;
    const int64_t passes = (right.taps + pass_taps - 1) / pass_taps * tap_parts;
    // By rows, and by columns as far as a pass over the right factor would not stay in the
    // second-level cache or threads would be idle; then rows are split more than once, beside the
    // products. Every block of rows reads the whole right factor: few rows are not cut. (Results do
    // not depend on how the columns are shared.)
    const int64_t wanted = panels <= 4 * kBlockPanels
                               ? kBlockPanels
                               : std::max<int64_t>(2, std::min(kBlockPanels, panels / 8));
    const int64_t blocks = (panels + wanted - 1) / wanted;
    const int64_t by_size =
        blocks == 1 ? 1 : (columns * pass_steps * kSplitStep + kRightBytes - 1) / kRightBytes;
    const int64_t shares = std::min(columns, std::max(by_size, equal_shares(blocks)));
    const int64_t block = (panels + blocks - 1) / blocks;
    const int64_t left_bytes = 2 * pass_steps * kSplitStep;
    const int64_t lines_bytes =
        block * kSplitLines * right.taps * static_cast<int64_t>(sizeof(float*));
    const int64_t own_bytes = left_bytes + round_up(lines_bytes, 64);
    Workspace scratch(static_cast<size_t>(num_threads() * own_bytes));
    std::atomic<int32_t> spoiled{0};
    parallel_for(blocks * shares, [&](int64_t begin, int64_t end, int thread) {
        char* own = at_offset(scratch, thread * own_bytes);
        auto** lines = reinterpret_cast<const float**>(own + left_bytes);
        int32_t bad = 0;
        for (int64_t item = begin; item < end && !bad; ++item) {
            const int64_t share = item / blocks, b = item % blocks;
            const int64_t first = panels * b / blocks * kSplitLines;
            const int64_t last = std::min(rows, panels * (b + 1) / blocks * kSplitLines);
            const int64_t p0 = columns * share / shares, p1 = columns * (share + 1) / shares;
            const Epilogue out = epilogue.at(first, p0 * kSplitLines);
            SplitStreamArgs g{};
            g.left = own;
            g.right_panel = static_cast<int64_t>(right.panel_bytes());
            g.rows = last - first;
            g.columns = std::min(right.columns, p1 * kSplitLines) - p0 * kSplitLines;
            g.c = c + first * c_row + p0 * kSplitLines;
            g.c_row = c_row;
            g.spoiled = &bad;
            for (int64_t t = 0; t < right.taps; ++t) left(t, first, g.rows, lines + t * g.rows);
            for (int64_t pass = 0; pass < passes && !bad; ++pass) {
                const int64_t tap = pass / tap_parts * pass_taps;
                const int64_t from = pass % tap_parts * part_steps;
                const int64_t taps = std::min(pass_taps, right.taps - tap);
                g.lines = lines + tap * g.rows;
                for (int64_t i = 0; from > 0 && i < g.rows; ++i)
                    lines[tap * g.rows + i] += part_steps * kSplitDepth;
                g.tap_depth =
                    std::min(part_steps * kSplitDepth, right.tap_depth - from * kSplitDepth);
                g.steps = taps * std::min(part_steps, tap_steps - from);
                g.right = right.panel(p0) + (tap * tap_steps + from) * kSplitStep;
                g.accumulate = pass > 0;
                if (prologue) {
                    g.scale = prologue->scale + from * kSplitDepth;
                    g.shift = prologue->shift + from * kSplitDepth;
                    g.before = prologue->activation;
                }
                if (pass == passes - 1) {
                    g.activation = out.activation;
                    g.bias = out.bias;
                    g.residual = out.residual;
                    g.residual_row = out.residual_row;
                }
                kernels().split_stream(g);
            }
        }
        if (bad) spoiled = 1;
    });
    return spoiled == 0;
}

bool run_split_transposed(const RowPointers& a, int64_t m, const RowPointers& b, int64_t taps,
                          int64_t columns, int64_t depth, float* c) {
    const int64_t n = taps * columns;
    // The left factor is transposed while it is split: better the smaller one, and then the result,
    // as long as it makes one block: the right one is split again for each.
    if (taps == 1 && m > n && n <= kBlockPanels * kSplitLines) {
        Workspace turned(static_cast<size_t>(m * n) * sizeof(float));
        if (!run_split_transposed(b, n, a, 1, m, depth, turned.f32())) return false;
        parallel_for(
            (m + 63) / 64, std::max<int64_t>(1, 256 / n), [&](int64_t begin, int64_t end, int) {
                const int64_t first = begin * 64, last = std::min(m, end * 64);
                kernels().transpose({turned.f32() + first, m, n, last - first, c + first * n, n});
            });
        return true;
    }
    const int64_t m_panels = (m + kSplitLines - 1) / kSplitLines;
    const int64_t tap_panels = (columns + kSplitLines - 1) / kSplitLines;
    // Few results: each part of the depth has results of its own, added in order afterwards. Many:
    // the parts share them, by blocks of a's columns, then by panels of b's.
    const int64_t passes = (depth + kPassDepth - 1) / kPassDepth;
    const int64_t parts =
        std::max<int64_t>(1, std::min({int64_t{8}, passes / 2, (int64_t{1} << 20) / (m * n)}));
    const int64_t m_blocks = (m_panels + kBlockPanels - 1) / kBlockPanels;
    const int64_t n_shares = std::min(taps * tap_panels, equal_shares(parts * m_blocks));
    const int64_t panel_bytes =
        std::min(kPassDepth, round_up(depth, kSplitDepth)) / kSplitDepth * kSplitStep;
    const int64_t block = (m_panels + m_blocks - 1) / m_blocks;
    const int64_t own_bytes = 2 * (block + 1) * panel_bytes;
    Workspace scratch(static_cast<size_t>(num_threads() * own_bytes));
    Workspace more(static_cast<size_t>((parts - 1) * m * n) * sizeof(float));
    std::atomic<int32_t> spoiled{0};
    parallel_for(parts * m_blocks * n_shares, [&](int64_t begin, int64_t end, int thread) {
        char* own = at_offset(scratch, thread * own_bytes);
        char* own_right = own + 2 * block * panel_bytes;
        int32_t bad = 0;
        const float *a_rows[2][kPassDepth], *b_rows[2][kPassDepth];
        const float *later_a[kPassDepth], *later_b[kPassDepth];
        for (int64_t item = begin; item < end && !bad; ++item) {
            const int64_t part = item / (m_blocks * n_shares);
            const int64_t mb = item / n_shares % m_blocks, share = item % n_shares;
            const int64_t low = m_panels * mb / m_blocks, high = m_panels * (mb + 1) / m_blocks;
            const int64_t all = taps * tap_panels;
            const int64_t q0 = all * share / n_shares, q1 = all * (share + 1) / n_shares;
            float* target = part == 0 ? c : more.f32() + (part - 1) * m * n;
            const int64_t p0 = passes * part / parts, p1 = passes * (part + 1) / parts;
            const auto count = [&](int64_t p) {
                return std::min(kPassDepth, depth - p * kPassDepth);
            };
            const auto left_job = [&](int64_t p, int64_t q) {
                const int64_t line = q * kSplitLines;
                return SplitArgs{
                    a_rows[p % 2], count(p), std::min<int64_t>(kSplitLines, m - line),
                    true,          false,    own + (p % 2 * block + q - low) * panel_bytes,
                    &bad,          line};
            };
            // Panel q of pass p is number `turn` in the order of the products; pointers are kept
            // from panel to panel of a tap.
            int64_t rows_of = -1, rows_at = 1;
            const auto right_job = [&](int64_t p, int64_t q, int64_t turn) {
                const int64_t tap = q / tap_panels, column = q % tap_panels * kSplitLines;
                if (rows_of != p * taps + tap) {
                    rows_of = p * taps + tap, rows_at = 1 - rows_at;
                    b(tap, p * kPassDepth, count(p), b_rows[rows_at]);
                }
                return SplitArgs{b_rows[rows_at],
                                 count(p),
                                 std::min<int64_t>(kSplitLines, columns - column),
                                 true,
                                 true,
                                 own_right + turn % 2 * panel_bytes,
                                 &bad,
                                 column};
            };
            // While a panel of b is multiplied, the next one is split, and a share of the next
            // pass's panels of a.
            a(0, p0 * kPassDepth, count(p0), a_rows[p0 % 2]);
            for (int64_t q = low; q < high; ++q) kernels().split(left_job(p0, q));
            int64_t turn = 0;
            kernels().split(right_job(p0, q0, turn));
            for (int64_t p = p0; p < p1 && !bad; ++p) {
                if (p + 1 < p1) a(0, (p + 1) * kPassDepth, count(p + 1), a_rows[(p + 1) % 2]);
                for (int64_t q = q0; q < q1; ++q, ++turn) {
                    SplitArgs jobs[kBlockPanels + 1];
                    int64_t job_count = 0;
                    if (q + 1 < q1)
                        jobs[job_count++] = right_job(p, q + 1, turn + 1);
                    else if (p + 1 < p1)
                        jobs[job_count++] = right_job(p + 1, q0, turn + 1);
                    const int64_t first = low + (high - low) * (q - q0) / (q1 - q0),
                                  last = low + (high - low) * (q - q0 + 1) / (q1 - q0);
                    for (int64_t l = first; l < last && p + 1 < p1; ++l)
                        jobs[job_count++] = left_job(p + 1, l);
                    const int64_t tap = q / tap_panels, column = q % tap_panels * kSplitLines;
                    SplitProductArgs g{};
                    g.left = own + p % 2 * block * panel_bytes;
                    g.left_panel = panel_bytes;
                    g.right = own_right + turn % 2 * panel_bytes;
                    g.steps = (count(p) + kSplitDepth - 1) / kSplitDepth;
                    g.c = target + low * kSplitLines * n + tap * columns + column;
                    g.c_row = n;
                    g.rows = std::min(m, high * kSplitLines) - low * kSplitLines;
                    g.columns = std::min<int64_t>(kSplitLines, columns - column);
                    g.accumulate = p > p0;
                    g.others = jobs;
                    g.other_count = job_count;
                    // A share of the rows of the pass after next: they come from memory in order,
                    // which panels of their columns would not. (Taps share pixels.)
                    if (p + 2 < p1) {
                        const int64_t n0 = count(p + 2) * (q - q0) / (q1 - q0);
                        const int64_t n1 = count(p + 2) * (q - q0 + 1) / (q1 - q0);
                        a(0, (p + 2) * kPassDepth + n0, n1 - n0, later_a);
                        b(taps / 2, (p + 2) * kPassDepth + n0, n1 - n0, later_b);
                        g.later[0] = {later_a, n1 - n0, (m + 15) / 16};
                        g.later[1] = {later_b, n1 - n0, (columns + 15) / 16};
                    }
                    kernels().split_product(g);
                }
            }
        }
        if (bad) spoiled = 1;
    });
    if (spoiled) return false;
    if (parts > 1)
        parallel_for(m, grain_of(n), [&](int64_t begin, int64_t end, int) {
            kernels().column_sum(
                {more.f32() + begin * n, m * n, parts - 1, (end - begin) * n, c + begin * n});
        });
    return true;
}

}  // namespace engine
