// Optimizer updates and gradient norms.
//
//   g = +-grad + weight_decay * p + l1 * sign(p), then
//   SGD      buf = momentum * buf + (1 - dampening) * g (first step: buf = g);
//            p -= lr * (nesterov ? g + momentum * buf : buf)
//   RMSprop  s = alpha * s + (1 - alpha) * g^2; d = sqrt(s - avg^2 when centered) + eps;
//            buf = momentum * buf + g / d; p -= lr * buf
//   Adagrad  s += g^2; p -= lr * g / (sqrt(s) + eps)
//   Adam     m += (1 - beta1) * (g - m); v = beta2 * v + (1 - beta2) * g^2;
//            p -= step_size * m / (sqrt(v) / sqrt(1 - beta2^step) + eps)
//
// Layout: flat memory; parameter, gradient and state share one order of elements.
// Method: one pass reads and writes everything once; the pass is bound by memory. Vector and tail
// do the same operations on each element, so the split over threads cannot be seen in the result.
// Registers: six operands and the broadcast hyper-parameters.
#include "dispatch/args.h"
#include "simd/math.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

inline vf sign_of(vf v) {
    return select(gt(v, zero()), set1(1.0f), select(lt(v, zero()), set1(-1.0f), zero()));
}

inline vf full_gradient(vf g, vf p, bool maximize, float weight_decay, float l1) {
    if (maximize) g = -g;
    if (weight_decay != 0.0f) g = fma(p, set1(weight_decay), g);
    if (l1 != 0.0f) g = fma(sign_of(p), set1(l1), g);
    return g;
}

}  // namespace

void sgd_update(const SgdArgs& a) {
    const vf lr = set1(a.lr), momentum = set1(a.momentum), share = set1(a.one_minus_dampening);
    for (int64_t i = 0; i < a.count; i += VL) {
        const int n = lanes_left(a.count - i);
        const vf p = load_some(a.param + i, n);
        vf g = full_gradient(load_some(a.grad + i, n), p, a.maximize, a.weight_decay, a.l1);
        if (a.buffer) {
            vf buffer = g;
            if (!a.first_step) buffer = fma(load_some(a.buffer + i, n), momentum, g * share);
            store_some(a.buffer + i, buffer, n);
            g = a.nesterov ? fma(buffer, momentum, g) : buffer;
        }
        store_some(a.param + i, fnma(lr, g, p), n);
    }
}

void rmsprop_update(const RmspropArgs& a) {
    const vf lr = set1(a.lr), alpha = set1(a.alpha), rest = set1(a.one_minus_alpha),
             eps = set1(a.eps);
    const vf momentum = set1(a.momentum);
    for (int64_t i = 0; i < a.count; i += VL) {
        const int n = lanes_left(a.count - i);
        const vf p = load_some(a.param + i, n);
        const vf g = full_gradient(load_some(a.grad + i, n), p, a.maximize, a.weight_decay, a.l1);
        const vf square = fma(load_some(a.square_avg + i, n), alpha, g * g * rest);
        store_some(a.square_avg + i, square, n);
        vf variance = square;
        if (a.grad_avg) {
            const vf old = load_some(a.grad_avg + i, n);
            const vf average = fma(g - old, rest, old);
            store_some(a.grad_avg + i, average, n);
            variance = fnma(average, average, square);
        }
        vf step = g / (sqrt(variance) + eps);
        if (a.buffer) {
            step = fma(load_some(a.buffer + i, n), momentum, step);
            store_some(a.buffer + i, step, n);
        }
        store_some(a.param + i, fnma(lr, step, p), n);
    }
}

void adagrad_update(const AdagradArgs& a) {
    const vf lr = set1(a.lr), eps = set1(a.eps);
    for (int64_t i = 0; i < a.count; i += VL) {
        const int n = lanes_left(a.count - i);
        const vf p = load_some(a.param + i, n);
        const vf g = full_gradient(load_some(a.grad + i, n), p, a.maximize, a.weight_decay, a.l1);
        const vf sum = fma(g, g, load_some(a.sum + i, n));
        store_some(a.sum + i, sum, n);
        store_some(a.param + i, fnma(lr, g / (sqrt(sum) + eps), p), n);
    }
}

void adam_update(const AdamArgs& a) {
    const vf share1 = set1(a.one_minus_beta1), beta2 = set1(a.beta2),
             share2 = set1(a.one_minus_beta2);
    const vf step_size = set1(a.step_size), inv_root = set1(a.inv_root_bc2), eps = set1(a.eps);
    const vf decay = set1(a.decay_factor);
    for (int64_t i = 0; i < a.count; i += VL) {
        const int n = lanes_left(a.count - i);
        vf p = load_some(a.param + i, n);
        const vf g = full_gradient(load_some(a.grad + i, n), p, a.maximize, a.weight_decay, a.l1);
        p = p * decay;
        const vf old = load_some(a.exp_avg + i, n);
        const vf average = fma(g - old, share1, old);
        store_some(a.exp_avg + i, average, n);
        vf square = fma(load_some(a.exp_avg_sq + i, n), beta2, g * g * share2);
        store_some(a.exp_avg_sq + i, square, n);
        if (a.max_exp_avg_sq) {
            square = max(load_some(a.max_exp_avg_sq + i, n), square);
            store_some(a.max_exp_avg_sq + i, square, n);
        }
        const vf denominator = fma(sqrt(square), inv_root, eps);
        store_some(a.param + i, fnma(step_size, average / denominator, p), n);
    }
}

void norm_partial(const NormPartialArgs& a) {
    const bool lowest = a.kind == NormKind::min_abs;
    vf acc = lowest ? set1(__builtin_inff()) : zero();
    for (int64_t i = 0; i < a.count; i += VL) {
        const int n = lanes_left(a.count - i);
        const vf v = abs(load_some(a.x + i, n));
        switch (a.kind) {
            case NormKind::sum_abs: acc = acc + v; break;
            case NormKind::sum_squares: acc = fma(v, v, acc); break;
            case NormKind::sum_power: {
                // A lane beyond the end must not count: 0^p is infinite for negative p.
                const vf power = pow(v, set1(a.p));
                acc = acc + (n == VL ? power : select(first_n(n), power, zero()));
                break;
            }
            case NormKind::max_abs: acc = max(acc, v); break;
            case NormKind::min_abs: {
                acc = min(acc, n == VL ? v : select(first_n(n), v, set1(__builtin_inff())));
                break;
            }
            case NormKind::count_nonzero:
                acc = acc + select(ne(v, zero()), set1(1.0f), zero());
                break;
        }
    }
    if (lowest)
        *a.partial = static_cast<double>(reduce_min(acc));
    else if (a.kind == NormKind::max_abs)
        *a.partial = static_cast<double>(reduce_max(acc));
    else
        *a.partial = static_cast<double>(reduce_add(acc));
}

void scale_flat(const ScaleArgs& a) {
    const vf factor = set1(a.factor);
    for (int64_t i = 0; i < a.count; i += VL) {
        const int n = lanes_left(a.count - i);
        store_some(a.x + i, load_some(a.x + i, n) * factor, n);
    }
}

void clamp_flat(const ClampArgs& a) {
    const vf high = set1(a.limit), low = set1(-a.limit);
    for (int64_t i = 0; i < a.count; i += VL) {
        const int n = lanes_left(a.count - i);
        store_some(a.x + i, min(max(load_some(a.x + i, n), low), high), n);
    }
}

// x * 0 is 0 for finite x and NaN for the rest; NaN stays in the sum.
void finite_flat(const FiniteArgs& a) {
    vf acc = zero();
    for (int64_t i = 0; i < a.count; i += VL)
        acc = fma(load_some(a.x + i, lanes_left(a.count - i)), zero(), acc);
    *a.finite = !any(is_nan(acc));
}

}  // namespace ENGINE_ISA
}  // namespace engine
