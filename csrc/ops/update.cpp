#include "ops/update.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "core/parallel.h"
#include "core/status.h"
#include "dispatch/table.h"
#include "ops/layout.h"

namespace engine {

namespace {

// Threads share parameters out in blocks of one cache line.
constexpr int64_t kBlock = 16;
constexpr int64_t kGrain = 1024;
// Elements per partial sum of a norm.
constexpr int64_t kChunk = 8192;

bool same_strides(const Array& a, const Array& b) {
    for (int i = 0; i < a.rank(); ++i)
        if (a.dim(i) != 1 && a.stride(i) != b.stride(i)) return false;
    return true;
}

void expect_writable(const char* op, const char* name, const Array& a) {
    for (int i = 0; i < a.rank(); ++i)
        ENGINE_CHECK(a.dim(i) <= 1 || a.stride(i) != 0 || a.numel() == 0, Kind::value, "[", op,
                     "] expected ", name, " without expanded axes, got shape ",
                     to_string(a.shape()), " with strides ", to_string(a.strides()),
                     ": make it contiguous first");
}

// Runs f(array, begin, count) over all elements of arrays of these sizes, in one parallel region.
template <class F>
void for_elements(const std::vector<int64_t>& sizes, F f) {
    std::vector<int64_t> ends(sizes.size());
    int64_t blocks = 0;
    for (size_t i = 0; i < sizes.size(); ++i) ends[i] = blocks += (sizes[i] + kBlock - 1) / kBlock;
    parallel_for(blocks, kGrain, [&](int64_t begin, int64_t end, int) {
        auto i =
            static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), begin) - ends.begin());
        for (; begin < end; ++i) {
            const int64_t start = i > 0 ? ends[i - 1] : 0, stop = std::min(end, ends[i]);
            if (stop <= begin) continue;
            const int64_t first = (begin - start) * kBlock,
                          last = std::min(sizes[i], (stop - start) * kBlock);
            f(i, first, last - first);
            begin = stop;
        }
    });
}

// Parameters, gradients and state as flat memory in one order of elements per parameter.
class Step {
  public:
    Step(const char* op, const Arrays& params, const Arrays& grads) : op_(op) {
        ENGINE_CHECK(params.size() == grads.size(), Kind::value, "[", op,
                     "] expected one gradient per parameter, got ", params.size(),
                     " parameters and ", grads.size(),
                     " gradients: leave out parameters without one");
        for (const Array& param : params) {
            expect_f32(op, "parameter", param);
            expect_writable(op, "parameter", param);
            params_.push_back(param.is_dense() ? param : copy(param));
            if (!param.is_dense()) copied_.push_back({param, params_.back()});
            param.mark_written();
            sizes_.push_back(param.numel());
        }
        for (size_t i = 0; i < grads.size(); ++i)
            grads_.push_back(in_order_of(i, "gradient", grads[i]));
    }

    // State to be changed; an empty list (or `used` false) gives null pointers.
    const Arrays* state(const char* name, const Arrays& given, bool used) {
        Arrays& list = states_[state_count_++];
        if (!used) return nullptr;
        ENGINE_CHECK(given.size() == params_.size(), Kind::value, "[", op_, "] expected one ", name,
                     " per parameter, got ", given.size(), " for ", params_.size(),
                     " parameters: pass the whole list");
        for (size_t i = 0; i < given.size(); ++i) {
            expect_writable(op_, name, given[i]);
            list.push_back(in_order_of(i, name, given[i]));
            if (list.back().storage() != given[i].storage())
                copied_.push_back({given[i], list.back()});
            given[i].mark_written();
        }
        return &list;
    }

    float* param(size_t i) const { return params_[i].f32(); }
    const float* grad(size_t i) const { return grads_[i].f32(); }
    static float* pointer(const Arrays* list, size_t i, int64_t begin) {
        return list ? (*list)[i].f32() + begin : nullptr;
    }

    template <class F>
    void run(F f) {
        for_elements(sizes_, f);
        for (const auto& [given, used] : copied_) copy_into(given, used);
    }

  private:
    Array in_order_of(size_t i, const char* name, const Array& a) const {
        const Array& param = params_[i];
        expect_f32(op_, name, a);
        ENGINE_CHECK(a.shape() == param.shape(), Kind::value, "[", op_, "] expected ", name, " ", i,
                     " of shape ", to_string(param.shape()), " like its parameter, got ",
                     to_string(a.shape()), ": parameters and lists must be in one order");
        if (same_strides(a, param) || a.numel() == 0) return a;
        Array ordered = empty_like(param);
        copy_into(ordered, a);
        return ordered;
    }

    const char* op_;
    Arrays params_, grads_, states_[3];
    int state_count_ = 0;
    std::vector<int64_t> sizes_;
    std::vector<std::pair<Array, Array>> copied_;  // given, used
};

float f(double value) { return static_cast<float>(value); }

// Arrays to be changed in place as flat memory; copies are written back by `finish`.
class InPlace {
  public:
    InPlace(const char* op, const Arrays& arrays) : given_(arrays) {
        for (const Array& a : arrays) {
            expect_f32(op, "array", a);
            expect_writable(op, "array", a);
            used.push_back(a.is_dense() ? a : copy(a));
            sizes.push_back(a.numel());
        }
    }
    void finish() const {
        for (size_t i = 0; i < used.size(); ++i) {
            if (used[i].storage() != given_[i].storage())
                copy_into(given_[i], used[i]);
            else
                given_[i].mark_written();
        }
    }
    Arrays used;
    std::vector<int64_t> sizes;

  private:
    const Arrays& given_;
};

struct Chunk {
    const float* data;
    int64_t count;
};

// All elements in chunks whose bounds depend on the shapes alone. `keep` holds what had to be
// copied.
std::vector<Chunk> chunks_of(const char* op, const Arrays& arrays, Arrays* keep) {
    std::vector<Chunk> chunks;
    for (const Array& a : arrays) {
        expect_f32(op, "array", a);
        keep->push_back(a.is_dense() ? a : contiguous(a));
        const int64_t count = a.numel();
        for (int64_t begin = 0; begin < count; begin += kChunk)
            chunks.push_back({keep->back().f32() + begin, std::min(kChunk, count - begin)});
    }
    return chunks;
}

}  // namespace

void sgd_step(const Arrays& params, const Arrays& grads, const Arrays& buffers,
              const SgdOptions& o) {
    Step step("sgd_step", params, grads);
    const Arrays* buffer = step.state("momentum buffer", buffers, o.momentum != 0);
    step.run([&](size_t i, int64_t begin, int64_t count) {
        SgdArgs a{};
        a.param = step.param(i) + begin, a.grad = step.grad(i) + begin;
        a.buffer = Step::pointer(buffer, i, begin);
        a.count = count;
        a.lr = f(o.lr), a.momentum = f(o.momentum), a.one_minus_dampening = f(1.0 - o.dampening);
        a.weight_decay = f(o.weight_decay), a.l1 = f(o.l1);
        a.nesterov = o.nesterov, a.first_step = o.first_step, a.maximize = o.maximize;
        kernels().sgd_update(a);
    });
}

void rmsprop_step(const Arrays& params, const Arrays& grads, const Arrays& square_avgs,
                  const Arrays& buffers, const Arrays& grad_avgs, const RmspropOptions& o) {
    Step step("rmsprop_step", params, grads);
    const Arrays* square_avg = step.state("square average", square_avgs, true);
    const Arrays* buffer = step.state("momentum buffer", buffers, o.momentum != 0);
    const Arrays* grad_avg = step.state("gradient average", grad_avgs, o.centered);
    step.run([&](size_t i, int64_t begin, int64_t count) {
        RmspropArgs a{};
        a.param = step.param(i) + begin, a.grad = step.grad(i) + begin;
        a.square_avg = Step::pointer(square_avg, i, begin);
        a.buffer = Step::pointer(buffer, i, begin), a.grad_avg = Step::pointer(grad_avg, i, begin);
        a.count = count;
        a.lr = f(o.lr), a.alpha = f(o.alpha), a.one_minus_alpha = f(1.0 - o.alpha),
        a.eps = f(o.eps);
        a.weight_decay = f(o.weight_decay), a.momentum = f(o.momentum), a.l1 = f(o.l1);
        a.maximize = o.maximize;
        kernels().rmsprop_update(a);
    });
}

void adagrad_step(const Arrays& params, const Arrays& grads, const Arrays& sums,
                  const AdagradOptions& o) {
    Step step("adagrad_step", params, grads);
    const Arrays* sum = step.state("sum of squares", sums, true);
    step.run([&](size_t i, int64_t begin, int64_t count) {
        AdagradArgs a{};
        a.param = step.param(i) + begin, a.grad = step.grad(i) + begin,
        a.sum = Step::pointer(sum, i, begin);
        a.count = count;
        a.lr = f(o.lr), a.eps = f(o.eps), a.weight_decay = f(o.weight_decay), a.l1 = f(o.l1);
        a.maximize = o.maximize;
        kernels().adagrad_update(a);
    });
}

void adam_step(const Arrays& params, const Arrays& grads, const Arrays& exp_avgs,
               const Arrays& exp_avg_sqs, const Arrays& max_exp_avg_sqs, const AdamOptions& o) {
    ENGINE_CHECK(o.step >= 1, Kind::value, "[adam_step] expected step >= 1, got ", o.step,
                 ": count the step before the update");
    Step step("adam_step", params, grads);
    const Arrays* exp_avg = step.state("exp_avg", exp_avgs, true);
    const Arrays* exp_avg_sq = step.state("exp_avg_sq", exp_avg_sqs, true);
    const Arrays* max_exp_avg_sq = step.state("max_exp_avg_sq", max_exp_avg_sqs, o.amsgrad);
    const double count_steps = static_cast<double>(o.step);
    const double correction1 = 1.0 - std::pow(o.beta1, count_steps),
                 correction2 = 1.0 - std::pow(o.beta2, count_steps);
    step.run([&](size_t i, int64_t begin, int64_t count) {
        AdamArgs a{};
        a.param = step.param(i) + begin, a.grad = step.grad(i) + begin;
        a.exp_avg = Step::pointer(exp_avg, i, begin),
        a.exp_avg_sq = Step::pointer(exp_avg_sq, i, begin);
        a.max_exp_avg_sq = Step::pointer(max_exp_avg_sq, i, begin);
        a.count = count;
        a.one_minus_beta1 = f(1.0 - o.beta1), a.beta2 = f(o.beta2),
        a.one_minus_beta2 = f(1.0 - o.beta2);
        a.step_size = f(o.lr / correction1), a.inv_root_bc2 = f(1.0 / std::sqrt(correction2)),
        a.eps = f(o.eps);
        a.weight_decay = o.decoupled ? 0.0f : f(o.weight_decay);
        a.decay_factor = o.decoupled ? f(1.0 - o.lr * o.weight_decay) : 1.0f;
        a.l1 = f(o.l1), a.maximize = o.maximize;
        kernels().adam_update(a);
    });
}

double total_norm(const Arrays& arrays, double p) {
    ENGINE_CHECK(!std::isnan(p), Kind::value,
                 "[total_norm] expected a number or infinity as p, got nan: the usual norm is 2");
    Arrays keep;
    const std::vector<Chunk> chunks = chunks_of("total_norm", arrays, &keep);
    const NormKind kind = p == 2          ? NormKind::sum_squares
                          : p == 1        ? NormKind::sum_abs
                          : p == 0        ? NormKind::count_nonzero
                          : std::isinf(p) ? (p > 0 ? NormKind::max_abs : NormKind::min_abs)
                                          : NormKind::sum_power;
    std::vector<double> partials(chunks.size());
    parallel_for(static_cast<int64_t>(chunks.size()), 2, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            const auto at = static_cast<size_t>(i);
            kernels().norm_partial({chunks[at].data, chunks[at].count, kind, f(p), &partials[at]});
        }
    });
    if (partials.empty()) return 0.0;
    double total = std::isinf(p) ? partials[0] : 0.0;
    for (double partial : partials) {
        if (!std::isinf(p))
            total += partial;
        else if (std::isnan(partial) || (p > 0 ? partial > total : partial < total))
            total = partial;
        if (std::isnan(total)) return total;
    }
    if (kind == NormKind::sum_squares) return std::sqrt(total);
    if (kind == NormKind::sum_power) return std::pow(total, 1.0 / p);
    return total;
}

void scale_in_place(const Arrays& arrays, double factor) {
    const InPlace all("scale_", arrays);
    for_elements(all.sizes, [&](size_t i, int64_t begin, int64_t count) {
        kernels().scale_flat({all.used[i].f32() + begin, count, f(factor)});
    });
    all.finish();
}

void clamp_in_place(const Arrays& arrays, double limit) {
    ENGINE_CHECK(limit >= 0, Kind::value, "[clamp_] expected limit >= 0, got ", limit,
                 ": values are clamped to [-limit, limit]");
    const InPlace all("clamp_", arrays);
    for_elements(all.sizes, [&](size_t i, int64_t begin, int64_t count) {
        kernels().clamp_flat({all.used[i].f32() + begin, count, f(limit)});
    });
    all.finish();
}

bool all_finite(const Arrays& arrays) {
    Arrays keep;
    const std::vector<Chunk> chunks = chunks_of("all_finite", arrays, &keep);
    std::atomic<bool> finite{true};
    parallel_for(static_cast<int64_t>(chunks.size()), 2, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end && finite.load(std::memory_order_relaxed); ++i) {
            bool chunk_finite = true;
            kernels().finite_flat({chunks[static_cast<size_t>(i)].data,
                                   chunks[static_cast<size_t>(i)].count, &chunk_finite});
            if (!chunk_finite) finite.store(false, std::memory_order_relaxed);
        }
    });
    return finite;
}

}  // namespace engine
