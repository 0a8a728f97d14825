#include "ops/update.h"

#include "bindings/bindings.h"

namespace engine {

void bind_update(py::module_& m) {
    using py::arg;
    m.def(
        "sgd_step",
        [](const Arrays& params, const Arrays& grads, const Arrays& bufs, double lr,
           double momentum, double dampening, double weight_decay, bool nesterov, bool first_step,
           double l1, bool maximize) {
            sgd_step(params, grads, bufs,
                     {lr, momentum, dampening, weight_decay, nesterov, first_step, l1, maximize});
        },
        arg("params"), arg("grads"), arg("bufs"), arg("lr"), arg("momentum") = 0.0,
        arg("dampening") = 0.0, arg("weight_decay") = 0.0, arg("nesterov") = false,
        arg("first_step") = false, arg("l1") = 0.0, arg("maximize") = false, Arithmetic());
    m.def(
        "rmsprop_step",
        [](const Arrays& params, const Arrays& grads, const Arrays& square_avgs, const Arrays& bufs,
           const Arrays& grad_avgs, double lr, double alpha, double eps, double weight_decay,
           double momentum, bool centered, double l1, bool maximize) {
            rmsprop_step(params, grads, square_avgs, bufs, grad_avgs,
                         {lr, alpha, eps, weight_decay, momentum, centered, l1, maximize});
        },
        arg("params"), arg("grads"), arg("square_avgs"), arg("bufs"), arg("grad_avgs"), arg("lr"),
        arg("alpha") = 0.99, arg("eps") = 1e-8, arg("weight_decay") = 0.0, arg("momentum") = 0.0,
        arg("centered") = false, arg("l1") = 0.0, arg("maximize") = false, Arithmetic());
    m.def(
        "adagrad_step",
        [](const Arrays& params, const Arrays& grads, const Arrays& sums, double lr, double eps,
           double weight_decay, double l1, bool maximize) {
            adagrad_step(params, grads, sums, {lr, eps, weight_decay, l1, maximize});
        },
        arg("params"), arg("grads"), arg("sums"), arg("lr"), arg("eps") = 1e-10,
        arg("weight_decay") = 0.0, arg("l1") = 0.0, arg("maximize") = false, Arithmetic());
    m.def(
        "adam_step",
        [](const Arrays& params, const Arrays& grads, const Arrays& exp_avgs,
           const Arrays& exp_avg_sqs, const Arrays& max_exp_avg_sqs, double lr, double beta1,
           double beta2, double eps, double weight_decay, int64_t step, bool amsgrad,
           bool decoupled, double l1, bool maximize) {
            adam_step(
                params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs,
                {lr, beta1, beta2, eps, weight_decay, step, amsgrad, decoupled, l1, maximize});
        },
        arg("params"), arg("grads"), arg("exp_avgs"), arg("exp_avg_sqs"), arg("max_exp_avg_sqs"),
        arg("lr"), arg("beta1") = 0.9, arg("beta2") = 0.999, arg("eps") = 1e-8,
        arg("weight_decay") = 0.0, arg("step") = 1, arg("amsgrad") = false,
        arg("decoupled") = false, arg("l1") = 0.0, arg("maximize") = false, Arithmetic());
    m.def("total_norm", &total_norm, arg("arrays"), arg("p") = 2.0, Arithmetic());
    m.def("scale_", &scale_in_place, arg("arrays"), arg("factor"), Arithmetic());
    m.def("clamp_", &clamp_in_place, arg("arrays"), arg("limit"), Arithmetic());
    m.def("all_finite", &all_finite, arg("arrays"), Arithmetic());
}

}  // namespace engine
