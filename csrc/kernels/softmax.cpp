// Softmax, log-softmax and cross-entropy.
//
// Formula   y = exp(x - max) / sum exp(x - max);  log: y = x - max - log(sum)
//           dx = y (dy - sum dy y);               log: dx = dy - exp(y) sum dy
//           cross-entropy with label smoothing e over C classes, class weights w, target t:
//           q_c = (1 - e) w_t [c = t] + e/C w_c;  loss = -sum q_c logp_c;  dx = p sum q - q
// Layout    [outer][n][inner], softmax along n. inner = 1: a row is contiguous and the lanes run
//           along it. Otherwise the lanes run along inner: one softmax per lane.
// Method    maximum, sum of exponentials, result: three passes, the row stays in the cache.
// Registers the exponential's constants and four accumulators
#include "dispatch/args.h"
#include "simd/math.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

ENGINE_INLINE int lanes_left(int64_t n, int64_t i) {
    return n - i < VL ? static_cast<int>(n - i) : VL;
}

ENGINE_INLINE float row_max(const float* x, int64_t n) {
    vf best = set1(-constants::kInf);
    int64_t i = 0;
    for (; i + VL <= n; i += VL) best = max(best, load(x + i));
    if (i < n) {
        const int rest = static_cast<int>(n - i);
        best = max(best, select(first_n(rest), load_n(x + i, rest), set1(-constants::kInf)));
    }
    return reduce_max(best);
}

// Sum of exp(x - shift); with `y` the exponentials are stored too.
template <bool stores>
ENGINE_INLINE float row_exp_sum(const float* x, int64_t n, vf shift, float* y) {
    vf sum = zero();
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        const vf e = exp_nonpositive(load(x + i) - shift);
        if (stores) store(y + i, e);
        sum = sum + e;
    }
    if (i < n) {
        const int rest = static_cast<int>(n - i);
        const vf e = exp_nonpositive(load_n(x + i, rest) - shift);
        if (stores) store_n(y + i, e, rest);
        sum = sum + select(first_n(rest), e, zero());
    }
    return reduce_add(sum);
}

ENGINE_INLINE float log_of(float x) {
    float lane[VL];
    store(lane, log(set1(x)));
    return lane[0];
}

// x - max - log(sum of exp(x - max))
ENGINE_INLINE void log_softmax_row(const float* x, float* y, int64_t n) {
    const float top = row_max(x, n);
    const vf log_sum = set1(log_of(row_exp_sum<false>(x, n, set1(top), nullptr)));
    int64_t i = 0;
    for (; i + VL <= n; i += VL) store(y + i, (load(x + i) - set1(top)) - log_sum);
    if (i < n) {
        const int rest = static_cast<int>(n - i);
        store_n(y + i, (load_n(x + i, rest) - set1(top)) - log_sum, rest);
    }
}

ENGINE_INLINE void softmax_row(const float* x, float* y, int64_t n) {
    const vf top = set1(row_max(x, n));
    const vf scale = set1(1.f / row_exp_sum<true>(x, n, top, y));
    int64_t i = 0;
    for (; i + VL <= n; i += VL) store(y + i, load(y + i) * scale);
    if (i < n) {
        const int rest = static_cast<int>(n - i);
        store_n(y + i, load_n(y + i, rest) * scale, rest);
    }
}

// One softmax per lane: `lanes` neighbouring columns of [n][inner].
template <bool log_form>
ENGINE_INLINE void softmax_lanes(const float* x, float* y, int64_t n, int64_t inner, int lanes) {
    vf top = set1(-constants::kInf);
    for (int64_t i = 0; i < n; ++i) top = max(top, load_n(x + i * inner, lanes));
    vf sum = zero();
    for (int64_t i = 0; i < n; ++i) {
        const vf e = exp_nonpositive(load_n(x + i * inner, lanes) - top);
        if (!log_form) store_n(y + i * inner, e, lanes);
        sum = sum + e;
    }
    const vf last = log_form ? log(sum) : set1(1.f) / sum;
    for (int64_t i = 0; i < n; ++i) {
        const vf v = log_form ? (load_n(x + i * inner, lanes) - top) - last
                              : load_n(y + i * inner, lanes) * last;
        store_n(y + i * inner, v, lanes);
    }
}

template <bool log_form>
ENGINE_INLINE void backward_row(const float* dy, const float* y, float* dx, int64_t n) {
    vf sum = zero();
    for (int64_t i = 0; i < n; i += VL) {
        const int lanes = lanes_left(n, i);
        const vf g = load_n(dy + i, lanes);
        sum = log_form ? sum + g : fma(g, load_n(y + i, lanes), sum);
    }
    const vf total = set1(reduce_add(sum));
    for (int64_t i = 0; i < n; i += VL) {
        const int lanes = lanes_left(n, i);
        const vf g = load_n(dy + i, lanes), v = load_n(y + i, lanes);
        store_n(dx + i, log_form ? fnma(exp_nonpositive(v), total, g) : v * (g - total), lanes);
    }
}

template <bool log_form>
ENGINE_INLINE void backward_lanes(const float* dy, const float* y, float* dx, int64_t n,
                                  int64_t inner, int lanes) {
    vf sum = zero();
    for (int64_t i = 0; i < n; ++i) {
        const vf g = load_n(dy + i * inner, lanes);
        sum = log_form ? sum + g : fma(g, load_n(y + i * inner, lanes), sum);
    }
    for (int64_t i = 0; i < n; ++i) {
        const vf g = load_n(dy + i * inner, lanes), v = load_n(y + i * inner, lanes);
        const vf d = log_form ? fnma(exp_nonpositive(v), sum, g) : v * (g - sum);
        store_n(dx + i * inner, d, lanes);
    }
}

template <bool log_form>
void forward(const SoftmaxArgs& a) {
    for (int64_t o = 0; o < a.outer; ++o) {
        const float* x = a.x + o * a.n * a.inner;
        float* y = a.y + o * a.n * a.inner;
        if (a.inner > 1) {
            for (int64_t i = 0; i < a.inner; i += VL)
                softmax_lanes<log_form>(x + i, y + i, a.n, a.inner, lanes_left(a.inner, i));
        } else if (log_form) {
            log_softmax_row(x, y, a.n);
        } else {
            softmax_row(x, y, a.n);
        }
    }
}

template <bool log_form>
void backward(const SoftmaxBackwardArgs& a) {
    for (int64_t o = 0; o < a.outer; ++o) {
        const int64_t start = o * a.n * a.inner;
        if (a.inner > 1) {
            for (int64_t i = 0; i < a.inner; i += VL)
                backward_lanes<log_form>(a.dy + start + i, a.y + start + i, a.dx + start + i, a.n,
                                         a.inner, lanes_left(a.inner, i));
        } else {
            backward_row<log_form>(a.dy + start, a.y + start, a.dx + start, a.n);
        }
    }
}

}  // namespace

void softmax_forward(const SoftmaxArgs& a) {
    if (a.log)
        forward<true>(a);
    else
        forward<false>(a);
}

void softmax_backward(const SoftmaxBackwardArgs& a) {
    if (a.log)
        backward<true>(a);
    else
        backward<false>(a);
}

void cross_entropy_forward(const CrossEntropyArgs& a) {
    const float share = a.smoothing / static_cast<float>(a.classes);
    for (int64_t row = 0; row < a.rows; ++row) {
        float* log_probs = a.log_probs + row * a.classes;
        log_softmax_row(a.logits + row * a.classes, log_probs, a.classes);
        const int64_t target = a.target[row];
        if (target == a.ignore_index) {
            a.loss[row] = 0.f;
            a.target_weight[row] = 0.f;
            continue;
        }
        const float target_weight = a.weight ? a.weight[target] : 1.f;
        float loss = -target_weight * log_probs[target];
        if (a.smoothing != 0.f) {  // else 0 * log 0 would be NaN
            vf sum = zero();
            for (int64_t i = 0; i < a.classes; i += VL) {
                const int lanes = lanes_left(a.classes, i);
                const vf v = load_n(log_probs + i, lanes);
                sum = a.weight ? fma(v, load_n(a.weight + i, lanes), sum) : sum + v;
            }
            const float uniform = -share * reduce_add(sum);
            loss = a.smoothing == 1.f ? uniform : (1.f - a.smoothing) * loss + uniform;
        }
        a.loss[row] = loss;
        a.target_weight[row] = target_weight;
    }
}

void cross_entropy_backward(const CrossEntropyBackwardArgs& a) {
    const float share = a.smoothing / static_cast<float>(a.classes);
    float all_weights = static_cast<float>(a.classes);
    if (a.weight && a.smoothing != 0.f) {
        vf sum = zero();
        for (int64_t i = 0; i < a.classes; i += VL)
            sum = sum + load_n(a.weight + i, lanes_left(a.classes, i));
        all_weights = reduce_add(sum);
    }
    for (int64_t row = 0; row < a.rows; ++row) {
        const float* log_probs = a.log_probs + row * a.classes;
        float* dlogits = a.dlogits + row * a.classes;
        const int64_t target = a.target[row];
        if (target == a.ignore_index) {
            for (int64_t i = 0; i < a.classes; i += VL)
                store_n(dlogits + i, zero(), lanes_left(a.classes, i));
            continue;
        }
        const float scale = a.dloss[row * a.dloss_step] * a.scale;
        const float hard = (1.f - a.smoothing) * (a.weight ? a.weight[target] : 1.f);
        const vf total = set1((hard + share * all_weights) * scale);
        const vf soft = set1(share * scale);
        for (int64_t i = 0; i < a.classes; i += VL) {
            const int lanes = lanes_left(a.classes, i);
            vf d = exp_nonpositive(load_n(log_probs + i, lanes)) * total;
            if (a.smoothing != 0.f)
                d = a.weight ? fnma(soft, load_n(a.weight + i, lanes), d) : d - soft;
            store_n(dlogits + i, d, lanes);
        }
        dlogits[target] -= hard * scale;
    }
}

}  // namespace ENGINE_ISA
}  // namespace engine
