#include "ops/grouped.h"

#include "ops/depthwise.h"

namespace engine {

namespace {

enum class Direction { forward, backward };

// Weights as [kh][input of the group][kw][output]; for the input gradient with inputs and outputs
// exchanged, and turned by 180 degrees where that gradient is a convolution.
std::shared_ptr<Workspace> pack_grouped(const Conv& c, const Array& w, Direction direction) {
    const bool backward = direction == Direction::backward, turned = backward && turns(c);
    const uint64_t key = (0xE0 + (backward ? 1 : 0) + (turned ? 2 : 0)) ^
                         static_cast<uint64_t>(w.offset()) << 8 ^
                         static_cast<uint64_t>(c.groups) << 40;
    return w.storage()->pack(key, [&] {
        const int64_t icg = c.group_ic(), ocg = c.group_oc();
        const int64_t inputs = backward ? ocg : icg, outputs = backward ? c.ic : c.oc;
        auto packed = std::make_shared<Workspace>(static_cast<size_t>(w.numel()) * sizeof(float));
        const float* from = w.f32();
        for (int64_t o = 0; o < c.oc; ++o)
            for (int64_t kh = 0; kh < c.kh; ++kh)
                for (int64_t kw = 0; kw < c.kw; ++kw)
                    for (int64_t i = 0; i < icg; ++i) {
                        const int64_t r = turned ? c.kh - 1 - kh : kh,
                                      q = turned ? c.kw - 1 - kw : kw;
                        const int64_t input = backward ? o % ocg : i;
                        const int64_t output = backward ? o / ocg * icg + i : o;
                        packed->f32()[((r * inputs + input) * c.kw + q) * outputs + output] =
                            *from++;
                    }
        return packed;
    });
}

}  // namespace

std::string declines_grouped(const Conv& c) {
    if (c.groups == 1) return "groups is 1";
    if (c.kw != 3 || c.dilation_w != 1 || c.stride_w > 2)
        return "columns other than three, dense, at a stride of 1 or 2";
    if (!meets_image(c)) return "windows in the padding alone";
    const int64_t size = c.group_ic();
    if (size != c.group_oc() || size == 1)
        return "one channel or unequal numbers of them per group";
    if (size >= kernels().lanes) return "a group fills a vector";
    if (kernels().lanes % size != 0) return "groups that do not divide a vector";
    return "";
}

std::string declines_grouped_data(const Conv& c) {
    if (!turns(c) && (c.stride_w != 2 || c.dilation_h != 1))
        return "stride in one direction only, or dilated rows under it";
    return declines_grouped(c);
}

void forward_grouped(const Conv& c, const Array& x, const Array& w, const Epilogue& epilogue,
                     const Array& y) {
    const auto packed = pack_grouped(c, w, Direction::forward);
    DepthwiseArgs d = forward_tiles(c, x, epilogue, y);
    d.weight = packed->f32(), d.group = c.group_ic();
    run_tiles(d, kernels().grouped, c.n, c.oh);
}

void data_grouped(const Conv& c, const Array& dy, const Array& w, const Array& dx) {
    const auto packed = pack_grouped(c, w, Direction::backward);
    DepthwiseArgs d = backward_tiles(c, dy, dx);
    d.weight = packed->f32(), d.group = c.group_oc();
    run_tiles(d, turns(c) ? kernels().grouped : kernels().grouped_spread, c.n, c.ih);
}

void weight_grouped(const Conv& c, const Array& dy, const Array& x, const Array& dw, float* dbias) {
    const int64_t icg = c.group_ic();
    std::vector<int64_t> order;
    for (int64_t kh = 0; kh < c.kh; ++kh)
        for (int64_t i = 0; i < icg; ++i)
            for (int64_t kw = 0; kw < c.kw; ++kw) order.push_back((kh * c.kw + kw) * icg + i);
    const DepthwiseWeightArgs problem = weight_tiles(c, dy, x);
    sum_rows(c, order, dw, dbias, [&](int64_t first, int64_t last, float* sums, float* bias_sums) {
        DepthwiseWeightArgs d = problem;
        d.dweight = sums, d.dbias = bias_sums, d.group = icg;
        run_weight_tiles(d, kernels().grouped_weight, c.oh, first, last);
    });
}

}  // namespace engine
