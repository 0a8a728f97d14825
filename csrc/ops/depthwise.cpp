#include "ops/depthwise.h"

#include <algorithm>
#include <cstring>

#include "core/parallel.h"
#include "ops/gemm.h"

namespace engine {

namespace {

// Weights as [kh][kw][channels].
std::shared_ptr<Workspace> pack_depthwise(const Conv& c, const Array& w) {
    const int64_t taps = c.kh * c.kw;
    const float* source = w.f32();
    const uint64_t key = 0xD0 ^ static_cast<uint64_t>(w.offset()) << 8;
    return w.storage()->pack(key, [&] {
        auto packed = std::make_shared<Workspace>(static_cast<size_t>(taps * c.oc) * sizeof(float));
        for (int64_t t = 0; t < taps; ++t)
            for (int64_t ch = 0; ch < c.oc; ++ch)
                packed->f32()[t * c.oc + ch] = source[ch * taps + t];
        return packed;
    });
}

}  // namespace

std::string declines_depthwise(const Conv& c) {
    if (c.groups == 1) return "groups is 1";
    if (c.groups != c.ic || c.oc != c.ic) return "more than one channel per group";
    return "";
}

void forward_depthwise(const Conv& c, const Array& x, const Array& w, const Epilogue& epilogue,
                       const Array& y) {
    const auto packed = pack_depthwise(c, w);
    const int64_t xp = pixel_stride(x), yp = pixel_stride(y);
    // Which kernel columns fall inside the image, per output column.
    std::vector<int32_t> begin(1, 0), src, tap;
    for (int64_t ow = 0; ow < c.ow; ++ow) {
        for (int64_t kw = 0; kw < c.kw; ++kw) {
            const int64_t iw = ow * c.stride_w - c.pad_left + kw * c.dilation_w;
            if (iw < 0 || iw >= c.iw) continue;
            src.push_back(static_cast<int32_t>(iw));
            tap.push_back(static_cast<int32_t>(kw));
        }
        begin.push_back(static_cast<int32_t>(src.size()));
    }
    const int64_t flops = 2 * c.kh * c.kw * c.ow * c.oc;
    Workspace rows(static_cast<size_t>(num_threads() * 2 * c.kh) * sizeof(int64_t));
    parallel_for(c.n * c.oh, std::max<int64_t>(1, 32768 / std::max<int64_t>(1, flops)),
                 [&](int64_t first, int64_t last, int thread) {
                     int64_t* row_src = static_cast<int64_t*>(rows.data()) + thread * 2 * c.kh;
                     int64_t* row_tap = row_src + c.kh;
                     for (int64_t item = first; item < last; ++item) {
                         const int64_t n = item / c.oh, oh = item % c.oh;
                         int64_t count = 0;
                         for (int64_t kh = 0; kh < c.kh; ++kh) {
                             const int64_t ih = oh * c.stride_h - c.pad_top + kh * c.dilation_h;
                             if (ih < 0 || ih >= c.ih) continue;
                             row_src[count] = ih * c.iw * xp;
                             row_tap[count++] = kh * c.kw;
                         }
                         DepthwiseArgs args;
                         args.src = x.f32() + n * c.ih * c.iw * xp;
                         args.src_pixel = xp;
                         args.dst = y.f32() + (n * c.oh + oh) * c.ow * yp;
                         args.dst_pixel = yp;
                         args.weight = packed->f32();
                         args.bias = epilogue.bias;
                         args.channels = c.oc;
                         args.pixels = c.ow;
                         args.row_src = row_src;
                         args.row_tap = row_tap;
                         args.row_count = count;
                         args.column_begin = begin.data();
                         args.column_src = src.data();
                         args.column_tap = tap.data();
                         kernels().depthwise_row(args);
                     }
                 });
    finish_output(epilogue, y);
}

void data_depthwise(const Conv& c, const Array& dy, const Array& w, const Array& dx) {
    const auto packed = pack_depthwise(c, w);
    const int64_t gp = pixel_stride(dy), xp = pixel_stride(dx);
    std::vector<int32_t> begin(1, 0), src, tap;
    for (int64_t iw = 0; iw < c.iw; ++iw) {
        for (int64_t kw = 0; kw < c.kw; ++kw) {
            const int64_t v = iw + c.pad_left - kw * c.dilation_w;
            if (v < 0 || v % c.stride_w || v / c.stride_w >= c.ow) continue;
            src.push_back(static_cast<int32_t>(v / c.stride_w));
            tap.push_back(static_cast<int32_t>(kw));
        }
        begin.push_back(static_cast<int32_t>(src.size()));
    }
    const int64_t flops = 2 * c.kh * c.kw * c.iw * c.ic;
    Workspace rows(static_cast<size_t>(num_threads() * 2 * c.kh) * sizeof(int64_t));
    parallel_for(c.n * c.ih, std::max<int64_t>(1, 32768 / std::max<int64_t>(1, flops)),
                 [&](int64_t first, int64_t last, int thread) {
                     int64_t* row_src = static_cast<int64_t*>(rows.data()) + thread * 2 * c.kh;
                     int64_t* row_tap = row_src + c.kh;
                     for (int64_t item = first; item < last; ++item) {
                         const int64_t n = item / c.ih, ih = item % c.ih;
                         int64_t count = 0;
                         for (int64_t kh = 0; kh < c.kh; ++kh) {
                             const int64_t h = ih + c.pad_top - kh * c.dilation_h;
                             if (h < 0 || h % c.stride_h || h / c.stride_h >= c.oh) continue;
                             row_src[count] = h / c.stride_h * c.ow * gp;
                             row_tap[count++] = kh * c.kw;
                         }
                         DepthwiseArgs args;
                         args.src = dy.f32() + n * c.oh * c.ow * gp;
                         args.src_pixel = gp;
                         args.dst = dx.f32() + (n * c.ih + ih) * c.iw * xp;
                         args.dst_pixel = xp;
                         args.weight = packed->f32();
                         args.bias = nullptr;
                         args.channels = c.ic;
                         args.pixels = c.iw;
                         args.row_src = row_src;
                         args.row_tap = row_tap;
                         args.row_count = count;
                         args.column_begin = begin.data();
                         args.column_src = src.data();
                         args.column_tap = tap.data();
                         kernels().depthwise_row(args);
                     }
                 });
}

void weight_depthwise(const Conv& c, const Array& dy, const Array& x, const Array& dw,
                      float* dbias) {
    const int64_t gp = pixel_stride(dy), xp = pixel_stride(x), taps = c.kh * c.kw;
    const int64_t parts = reduction_parts(c, (taps + 1) * c.oc), rows = c.n * c.oh;
    Workspace partial(static_cast<size_t>(parts * (taps + 1) * c.oc) * sizeof(float));
    parallel_for(parts, [&](int64_t begin, int64_t end, int) {
        for (int64_t part = begin; part < end; ++part) {
            float* sums = partial.f32() + part * (taps + 1) * c.oc;
            std::fill_n(sums, (taps + 1) * c.oc, 0.0f);
            for (int64_t row = rows * part / parts; row < rows * (part + 1) / parts; ++row) {
                const int64_t n = row / c.oh, oh = row % c.oh;
                const float* grad = dy.f32() + row * c.ow * gp;
                if (dbias) kernels().column_sum({grad, gp, c.ow, c.oc, sums + taps * c.oc});
                for (int64_t kh = 0; kh < c.kh; ++kh) {
                    const int64_t ih = oh * c.stride_h - c.pad_top + kh * c.dilation_h;
                    if (ih < 0 || ih >= c.ih) continue;
                    for (int64_t kw = 0; kw < c.kw; ++kw) {
                        const int64_t shift =
                            kw * c.dilation_w - c.pad_left;  // iw = ow * stride + shift
                        const int64_t first =
                            shift >= 0 ? 0 : (-shift + c.stride_w - 1) / c.stride_w;
                        const int64_t last =
                            std::min(c.ow, c.iw > shift ? (c.iw - shift - 1) / c.stride_w + 1 : 0);
                        if (first >= last) continue;
                        DepthwiseWeightArgs args;
                        args.src =
                            x.f32() + ((n * c.ih + ih) * c.iw + first * c.stride_w + shift) * xp;
                        args.src_pixel = c.stride_w * xp;
                        args.grad = grad + first * gp;
                        args.grad_pixel = gp;
                        args.channels = c.oc;
                        args.pixels = last - first;
                        args.dweight = sums + (kh * c.kw + kw) * c.oc;
                        kernels().depthwise_weight_row(args);
                    }
                }
            }
        }
    });
    const int64_t size = (taps + 1) * c.oc;
    for (int64_t part = 1; part < parts; ++part)
        for (int64_t i = 0; i < size; ++i) partial.f32()[i] += partial.f32()[part * size + i];
    for (int64_t t = 0; t < taps; ++t)
        for (int64_t ch = 0; ch < c.oc; ++ch)
            dw.f32()[ch * taps + t] = partial.f32()[t * c.oc + ch];
    if (dbias)
        std::memcpy(dbias, partial.f32() + taps * c.oc, static_cast<size_t>(c.oc) * sizeof(float));
}

}  // namespace engine
