// Convolutions as products on matrix tiles: every tap of the kernel is a piece of the depth, and
// pixels are split as they are read. The arithmetic is that of a plain sum (ops/split.h).
#include <algorithm>
#include <cstring>

#include "core/parallel.h"
#include "ops/conv2d.h"
#include "ops/conv2d_split.h"
#include "ops/split.h"

namespace engine {

namespace {

int64_t pixels(const Conv& c) { return c.n * c.oh * c.ow; }

std::string declines(const Conv& c) {
    if (!split_products()) return "no matrix tiles";
    if (c.groups != 1) return "grouped";
    return "";
}

}  // namespace

std::string declines_split(const Conv& c) {
    if (const std::string reason = declines(c); !reason.empty()) return reason;
    if (!takes_split(pixels(c), c.oc, c.kh * c.kw, c.ic)) return "too few pixels or channels";
    return "";
}

std::string declines_split_data(const Conv& c) {
    if (const std::string reason = declines(c); !reason.empty()) return reason;
    if (!takes_split(c.n * (c.ih / c.stride_h) * (c.iw / c.stride_w), c.ic, 1, c.oc))
        return "too few pixels or channels";
    return "";
}

std::string declines_split_weight(const Conv& c) {
    if (const std::string reason = declines(c); !reason.empty()) return reason;
    if (!takes_split_transposed(c.oc, c.kh * c.kw, c.ic, pixels(c)))
        return "too few pixels or channels";
    return "";
}

void forward_split(const Conv& c, const Array& x, const Array& w, const Epilogue& epilogue,
                   const Array& y) {
    std::vector<int64_t> taps;
    for (int64_t t = 0; t < c.kh * c.kw; ++t) taps.push_back(t * c.ic);
    const SplitFactor filters = split_weight(w, taps, c.ic, c.oc, 1, c.kh * c.kw * c.ic);
    ZeroPixel zeros(c.ic);
    if (!run_split(pixels(c), source_pixels(c, x.f32(), pixel_stride(x), zeros.data.f32()), filters,
                   y.f32(), pixel_stride(y), epilogue))
        forward_direct(c, x, w, epilogue, y);
}

// A stride of s splits the input into s x s interleaved grids; on each, the gradient is a product
// of dy's pixels with the taps that reach it.
void data_split(const Conv& c, const Array& dy, const Array& w, const Array& dx) {
    const int64_t gp = pixel_stride(dy), xp = pixel_stride(dx), filter = c.kh * c.kw * c.ic;
    const bool strided = c.stride_h > 1 || c.stride_w > 1;
    ZeroPixel zeros(c.oc);
    const float *grad = dy.f32(), *none = zeros.data.f32();
    bool finite = true;
    for (int64_t phase = 0; phase < c.stride_h * c.stride_w && finite; ++phase) {
        const int64_t ph = phase / c.stride_w, pw = phase % c.stride_w;
        const int64_t height = (c.ih - ph + c.stride_h - 1) / c.stride_h;
        const int64_t width = (c.iw - pw + c.stride_w - 1) / c.stride_w;
        if (height <= 0 || width <= 0) continue;
        // Grid position q meets output position q + offset through the tap.
        std::vector<int64_t> taps, offsets_h, offsets_w;
        for (int64_t kh = 0; kh < c.kh; ++kh)
            for (int64_t kw = 0; kw < c.kw; ++kw) {
                const int64_t h = ph + c.pad_top - kh * c.dilation_h;
                const int64_t v = pw + c.pad_left - kw * c.dilation_w;
                if (h % c.stride_h || v % c.stride_w) continue;
                taps.push_back((kh * c.kw + kw) * c.ic);
                offsets_h.push_back(h / c.stride_h);
                offsets_w.push_back(v / c.stride_w);
            }
        const int64_t rows = c.n * height * width;
        Workspace dense(strided ? static_cast<size_t>(rows * c.ic) * sizeof(float) : 0);
        if (!taps.empty()) {
            const SplitFactor filters = split_weight(w, taps, c.oc, c.ic, filter, 1);
            const auto pointers = [&](int64_t tap, int64_t first, int64_t count, const float** to) {
                const int64_t off_h = offsets_h[static_cast<size_t>(tap)];
                const int64_t off_w = offsets_w[static_cast<size_t>(tap)];
                walk_pixels(first, count, height, width, [&](int64_t n, int64_t y, int64_t x) {
                    const int64_t oh = y + off_h, ow = x + off_w;
                    const bool inside = oh >= 0 && oh < c.oh && ow >= 0 && ow < c.ow;
                    *to++ = inside ? grad + ((n * c.oh + oh) * c.ow + ow) * gp : none;
                });
            };
            finite = run_split(rows, pointers, filters, strided ? dense.f32() : dx.f32(),
                               strided ? c.ic : xp, {});
        }
        if (!strided || !finite) continue;
        const size_t bytes = static_cast<size_t>(c.ic) * sizeof(float);
        parallel_for(c.n * height, grain_of(width * c.ic), [&](int64_t begin, int64_t end, int) {
            for (int64_t line = begin; line < end; ++line) {
                const int64_t ih = line / height * c.ih + line % height * c.stride_h + ph;
                float* to = dx.f32() + (ih * c.iw + pw) * xp;
                const float* from = dense.f32() + line * width * c.ic;
                for (int64_t i = 0; i < width; ++i, to += c.stride_w * xp)
                    if (taps.empty())
                        std::memset(to, 0, bytes);
                    else
                        std::memcpy(to, from + i * c.ic, bytes);
            }
        });
    }
    if (!finite) data_direct(c, dy, w, dx);
}

void weight_split(const Conv& c, const Array& dy, const Array& x, const Array& dw, float* dbias) {
    ZeroPixel zeros(c.ic);
    const RightRows source{source_pixels(c, x.f32(), pixel_stride(x), zeros.data.f32()),
                           c.kh * c.kw, c.ic};
    transposed_product({dy.f32(), c.oc, pixel_stride(dy)}, source, pixels(c), dw.f32(), dbias);
}

}  // namespace engine
