#include "ops/depthwise.h"

#include <algorithm>
#include <numeric>

#include "core/parallel.h"
#include "ops/gemm.h"
#include "ops/layout.h"

namespace engine {

namespace {

enum class Order { straight, turned };

// Weights as [kh][kw][channels], turned by 180 degrees for the input gradient.
std::shared_ptr<Workspace> pack_depthwise(const Conv& c, const Array& w, Order order) {
    const int64_t taps = c.kh * c.kw;
    const float* source = w.f32();
    const bool turned = order == Order::turned;
    const uint64_t key = (turned ? 0xD1 : 0xD0) ^ static_cast<uint64_t>(w.offset()) << 8;
    return w.storage()->pack(key, [&] {
        auto packed = std::make_shared<Workspace>(static_cast<size_t>(taps * c.oc) * sizeof(float));
        for (int64_t t = 0; t < taps; ++t) {
            float* to = packed->f32() + (turned ? taps - 1 - t : t) * c.oc;
            for (int64_t ch = 0; ch < c.oc; ++ch) to[ch] = source[ch * taps + t];
        }
        return packed;
    });
}

// Whether the register tiles know the kernel's columns; the tables take any.
bool tiled(const Conv& c) {
    return (c.kw == 3 || c.kw == 5 || c.kw == 7) && c.stride_w <= 2 && c.dilation_w == 1 &&
           meets_image(c);
}
bool tiled_spread(const Conv& c) { return tiled(c) && c.stride_w == 2 && c.dilation_h == 1; }

// Calls f(image, first row, last row) for all rows of all images, in blocks of rows: enough of them
// for the threads, and `least` at least for each image.
template <class F>
void over_rows(int64_t images, int64_t rows, int64_t row_flops, int64_t least, F&& f) {
    const int64_t wanted = std::max<int64_t>(least, 8 * num_threads() / images);
    const int64_t blocks =
        std::clamp<int64_t>(wanted, 1, std::max<int64_t>({1, rows / 2, std::min(rows, least)}));
    // At half the speed of a product.
    parallel_for(images * blocks, product_grain(2 * row_flops * rows / blocks),
                 [&](int64_t begin, int64_t end, int) {
                     for (int64_t item = begin; item < end; ++item) {
                         const int64_t b = item % blocks;
                         f(item / blocks, rows * b / blocks, rows * (b + 1) / blocks);
                     }
                 });
}

// Which taps reach each place of one axis of the destination.
struct Taps {
    std::vector<int32_t> begin{0}, src, tap;
    void add(int64_t position, int64_t t) {
        src.push_back(static_cast<int32_t>(position));
        tap.push_back(static_cast<int32_t>(t));
    }
    void close() { begin.push_back(static_cast<int32_t>(src.size())); }
};
Taps forward_taps(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t pad,
                  int64_t dilation) {
    Taps taps;
    for (int64_t o = 0; o < out; ++o, taps.close())
        for (int64_t k = 0; k < kernel; ++k) {
            const int64_t i = o * stride - pad + k * dilation;
            if (i >= 0 && i < in) taps.add(i, k);
        }
    return taps;
}
Taps backward_taps(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t pad,
                   int64_t dilation) {
    Taps taps;
    for (int64_t i = 0; i < in; ++i, taps.close())
        for (int64_t k = 0; k < kernel; ++k) {
            const int64_t v = i + pad - k * dilation;
            if (v >= 0 && v % stride == 0 && v / stride < out) taps.add(v / stride, k);
        }
    return taps;
}

// All rows of dst by tables of taps. problem.src_h and src_w, dst_w, kernel_w and channels count.
void run_taps(const DepthwiseArgs& problem, const Taps& vertical, const Taps& horizontal,
              int64_t images) {
    const auto rows = static_cast<int64_t>(vertical.begin.size()) - 1;
    const int64_t src_row = problem.src_w * problem.src_pixel;
    std::vector<int64_t> row_src, row_tap;
    for (int32_t s : vertical.src) row_src.push_back(s * src_row);
    for (int32_t t : vertical.tap) row_tap.push_back(t * problem.kernel_w);
    const int64_t row_flops = 2 * static_cast<int64_t>(horizontal.src.size()) * problem.channels *
                              static_cast<int64_t>(vertical.src.size()) / rows;
    over_rows(images, rows, row_flops, 1, [&](int64_t n, int64_t first, int64_t last) {
        DepthwiseTapsArgs d{};
        d.src = problem.src + n * problem.src_h * src_row;
        d.src_pixel = problem.src_pixel, d.dst_pixel = problem.dst_pixel;
        d.weight = problem.weight, d.bias = problem.bias;
        d.channels = problem.channels, d.pixels = problem.dst_w;
        d.column_begin = horizontal.begin.data();
        d.column_src = horizontal.src.data(), d.column_tap = horizontal.tap.data();
        for (int64_t h = first; h < last; ++h) {
            const int32_t begin = vertical.begin[static_cast<size_t>(h)];
            d.row_count = vertical.begin[static_cast<size_t>(h) + 1] - begin;
            d.row_src = row_src.data() + begin, d.row_tap = row_tap.data() + begin;
            d.dst = problem.dst + (n * rows + h) * problem.dst_w * problem.dst_pixel;
            kernels().depthwise_taps(d);
            if (problem.residual || problem.activation != Activation::none) {
                const int64_t pixel = (n * rows + h) * problem.dst_w;
                kernels().finish(
                    {d.dst, d.dst_pixel, d.pixels, d.channels,
                     problem.residual ? problem.residual + pixel * problem.residual_pixel : nullptr,
                     problem.residual_pixel, problem.activation, nullptr, nullptr});
            }
        }
    });
}

// What a block of rows reads and writes together stays in the second-level cache beside what is
// fetched for the next one.
constexpr int64_t kBlockBytes = int64_t{256} << 10;
// Wider rows than these, or more than the second-level caches hold, come from memory.
constexpr int64_t kWideBytes = int64_t{36} << 10, kFarBytes = int64_t{4} << 20;

// Whether results are stored past the caches. From 16 MiB on, the same call again and again is 30 %
// slower, a network up to 20 % faster at some sizes.
bool streams(const DepthwiseArgs& d, int64_t pixels) {
    return kernels().lanes == 16 && !d.residual && d.activation <= Activation::relu6 &&
           engine::streams(d.dst, d.dst_pixel, pixels, d.channels, 2 * kStreamBytes);
}

}  // namespace

bool meets_image(const Conv& c) {
    return c.pad_left < c.kw && (c.ow - 1) * c.stride_w - c.pad_left < c.iw;
}

void run_tiles(const DepthwiseArgs& problem, void (*kernel)(const DepthwiseArgs&), int64_t images,
               int64_t rows) {
    const int64_t taps = problem.kernel_h * problem.kernel_w * std::max<int64_t>(1, problem.group);
    const int64_t row_flops =
        2 * taps * problem.dst_w * problem.channels / problem.stride_h / problem.stride_w;
    const int64_t src_pixels = problem.src_h * problem.src_w, dst_pixels = rows * problem.dst_w;
    const int64_t pixel_bytes = problem.channels * static_cast<int64_t>(sizeof(float));
    const int64_t image_bytes = (src_pixels + dst_pixels) * pixel_bytes;
    const bool dense =
        problem.src_pixel == problem.channels && problem.dst_pixel == problem.channels;
    const bool far = dense && images * image_bytes > kFarBytes;
    const bool dear = problem.stride_w == 1 || problem.src_w * pixel_bytes > kWideBytes;
    DepthwiseArgs shared = problem;
    shared.stream = streams(problem, images * dst_pixels);
    shared.fetch_ahead = far && dear;
    shared.fetch_results =
        far && !shared.stream && images * dst_pixels * pixel_bytes >= kStreamBytes;
    // Wide rows of a stride, and results on their way past the caches, keep the order of memory.
    const bool by_rows =
        shared.stream || (problem.stride_w > 1 && problem.src_w * pixel_bytes > kWideBytes);
    over_rows(images, rows, row_flops, by_rows ? rows : image_bytes / kBlockBytes,
              [&](int64_t n, int64_t first, int64_t last) {
                  DepthwiseArgs d = shared;
                  const int64_t pixel = n * dst_pixels;
                  d.row_begin = first, d.row_end = last;
                  d.src = problem.src + n * src_pixels * d.src_pixel;
                  d.dst = problem.dst + pixel * d.dst_pixel;
                  if (problem.residual) d.residual = problem.residual + pixel * d.residual_pixel;
                  kernel(d);
              });
}

void run_weight_tiles(const DepthwiseWeightArgs& problem,
                      void (*kernel)(const DepthwiseWeightArgs&), int64_t rows, int64_t first,
                      int64_t last) {
    DepthwiseWeightArgs d = problem;
    d.fetch_ahead = d.src_pixel == d.channels && d.grad_pixel == d.channels;
    for (int64_t row = first; row < last;) {
        const int64_t n = row / rows, end = std::min(last, (n + 1) * rows);
        d.row_begin = row - n * rows, d.row_end = end - n * rows;
        d.src = problem.src + n * d.src_h * d.src_w * d.src_pixel;
        d.grad = problem.grad + n * rows * d.grad_w * d.grad_pixel;
        kernel(d);
        row = end;
    }
}

DepthwiseArgs forward_tiles(const Conv& c, const Array& x, const Epilogue& epilogue,
                            const Array& y) {
    DepthwiseArgs d{};
    d.src = x.f32(), d.src_pixel = pixel_stride(x), d.src_h = c.ih, d.src_w = c.iw;
    d.dst = y.f32(), d.dst_pixel = pixel_stride(y), d.dst_w = c.ow;
    d.channels = d.weight_tap = c.oc;
    d.bias = epilogue.bias, d.residual = epilogue.residual;
    d.residual_pixel = epilogue.residual_row, d.activation = epilogue.activation;
    d.kernel_h = c.kh, d.kernel_w = c.kw, d.stride_h = c.stride_h, d.stride_w = c.stride_w;
    d.pad_top = c.pad_top, d.pad_left = c.pad_left, d.dilation_h = c.dilation_h;
    return d;
}

bool turns(const Conv& c) { return c.stride_h == 1 && c.stride_w == 1; }

DepthwiseArgs backward_tiles(const Conv& c, const Array& dy, const Array& dx) {
    DepthwiseArgs d{};
    d.src = dy.f32(), d.src_pixel = pixel_stride(dy), d.src_h = c.oh, d.src_w = c.ow;
    d.dst = dx.f32(), d.dst_pixel = pixel_stride(dx), d.dst_w = c.iw;
    d.channels = d.weight_tap = c.ic;
    d.kernel_h = c.kh, d.kernel_w = c.kw, d.stride_h = c.stride_h, d.stride_w = c.stride_w;
    d.pad_top = turns(c) ? (c.kh - 1) * c.dilation_h - c.pad_top : c.pad_top;
    d.pad_left = turns(c) ? (c.kw - 1) * c.dilation_w - c.pad_left : c.pad_left;
    d.dilation_h = c.dilation_h;
    return d;
}

DepthwiseWeightArgs weight_tiles(const Conv& c, const Array& dy, const Array& x) {
    DepthwiseWeightArgs d{};
    d.src = x.f32(), d.src_pixel = pixel_stride(x), d.src_h = c.ih, d.src_w = c.iw;
    d.grad = dy.f32(), d.grad_pixel = pixel_stride(dy), d.grad_w = c.ow;
    d.channels = d.weight_tap = c.oc;
    d.kernel_h = c.kh, d.kernel_w = c.kw, d.stride_h = c.stride_h, d.stride_w = c.stride_w;
    d.pad_top = c.pad_top, d.pad_left = c.pad_left, d.dilation_h = c.dilation_h;
    return d;
}

void sum_rows(const Conv& c, const std::vector<int64_t>& order, const Array& dw, float* dbias,
              const std::function<void(int64_t, int64_t, float*, float*)>& sum) {
    const auto taps = static_cast<int64_t>(order.size());
    const int64_t size = (taps + 1) * c.oc, rows = c.n * c.oh;
    const int64_t parts = reduction_parts(c, size);
    Workspace partial(static_cast<size_t>(parts * size) * sizeof(float));
    parallel_for(parts, [&](int64_t begin, int64_t end, int) {
        for (int64_t part = begin; part < end; ++part) {
            float* sums = partial.f32() + part * size;
            std::fill_n(sums, size, 0.0f);
            sum(rows * part / parts, rows * (part + 1) / parts, sums,
                dbias ? sums + taps * c.oc : nullptr);
        }
    });
    float* dweight = dw.f32();
    const float* all = partial.f32();
    parallel_for(c.oc, grain_of(parts * taps), [&](int64_t first, int64_t last, int) {
        constexpr int64_t kBlock = 64;
        float total[kBlock];
        for (int64_t begin = first; begin < last; begin += kBlock) {
            const int64_t count = std::min(kBlock, last - begin);
            for (int64_t t = 0; t < taps + (dbias ? 1 : 0); ++t) {
                const float* sums = all + t * c.oc + begin;
                std::copy_n(sums, count, total);
                for (int64_t part = 1; part < parts; ++part)
                    for (int64_t o = 0; o < count; ++o) total[o] += sums[part * size + o];
                float* to = t < taps ? dweight + begin * taps + order[static_cast<size_t>(t)]
                                     : dbias + begin;
                const int64_t step = t < taps ? taps : 1;
                for (int64_t o = 0; o < count; ++o) to[o * step] = total[o];
            }
        }
    });
}

std::string declines_depthwise(const Conv& c) {
    if (c.groups == 1) return "groups is 1";
    if (c.groups != c.ic || c.oc != c.ic) return "more than one channel per group";
    return "";
}

void forward_depthwise(const Conv& c, const Array& x, const Array& w, const Epilogue& epilogue,
                       const Array& y) {
    const auto packed = pack_depthwise(c, w, Order::straight);
    DepthwiseArgs d = forward_tiles(c, x, epilogue, y);
    d.weight = packed->f32();
    if (tiled(c))
        run_tiles(d, kernels().depthwise, c.n, c.oh);
    else
        run_taps(d, forward_taps(c.ih, c.oh, c.kh, c.stride_h, c.pad_top, c.dilation_h),
                 forward_taps(c.iw, c.ow, c.kw, c.stride_w, c.pad_left, c.dilation_w), c.n);
}

void data_depthwise(const Conv& c, const Array& dy, const Array& w, const Array& dx) {
    const bool turned = tiled(c) && turns(c);
    const auto packed = pack_depthwise(c, w, turned ? Order::turned : Order::straight);
    DepthwiseArgs d = backward_tiles(c, dy, dx);
    d.weight = packed->f32();
    if (turned || tiled_spread(c))
        run_tiles(d, turned ? kernels().depthwise : kernels().depthwise_spread, c.n, c.ih);
    else
        run_taps(d, backward_taps(c.ih, c.oh, c.kh, c.stride_h, c.pad_top, c.dilation_h),
                 backward_taps(c.iw, c.ow, c.kw, c.stride_w, c.pad_left, c.dilation_w), c.n);
}

namespace {

// One tap after the other, for any stride and dilation of the columns.
void sum_taps(const Conv& c, const Array& dy, const Array& x, int64_t first, int64_t last,
              float* sums, float* bias_sums) {
    const int64_t gp = pixel_stride(dy), xp = pixel_stride(x);
    for (int64_t row = first; row < last; ++row) {
        const int64_t n = row / c.oh, oh = row % c.oh;
        const float* grad = dy.f32() + row * c.ow * gp;
        if (bias_sums) kernels().column_sum({grad, gp, c.ow, c.oc, bias_sums});
        for (int64_t kh = 0; kh < c.kh; ++kh) {
            const int64_t ih = oh * c.stride_h - c.pad_top + kh * c.dilation_h;
            if (ih < 0 || ih >= c.ih) continue;
            for (int64_t kw = 0; kw < c.kw; ++kw) {
                // iw = ow * stride + shift
                const int64_t shift = kw * c.dilation_w - c.pad_left;
                const int64_t begin = shift >= 0 ? 0 : (-shift + c.stride_w - 1) / c.stride_w;
                const int64_t end =
                    std::min(c.ow, c.iw > shift ? (c.iw - shift - 1) / c.stride_w + 1 : 0);
                if (begin >= end) continue;
                DepthwiseWeightTapArgs d{};
                d.src = x.f32() + ((n * c.ih + ih) * c.iw + begin * c.stride_w + shift) * xp;
                d.src_pixel = c.stride_w * xp;
                d.grad = grad + begin * gp, d.grad_pixel = gp;
                d.channels = c.oc, d.pixels = end - begin;
                d.dweight = sums + (kh * c.kw + kw) * c.oc;
                kernels().depthwise_weight_tap(d);
            }
        }
    }
}

}  // namespace

void weight_depthwise(const Conv& c, const Array& dy, const Array& x, const Array& dw,
                      float* dbias) {
    std::vector<int64_t> order(static_cast<size_t>(c.kh * c.kw));
    std::iota(order.begin(), order.end(), 0);
    const DepthwiseWeightArgs problem = weight_tiles(c, dy, x);
    sum_rows(c, order, dw, dbias, [&](int64_t first, int64_t last, float* sums, float* bias_sums) {
        DepthwiseWeightArgs d = problem;
        d.dweight = sums, d.dbias = bias_sums;
        if (tiled(c))
            run_weight_tiles(d, kernels().depthwise_weight, c.oh, first, last);
        else
            sum_taps(c, dy, x, first, last, sums, bias_sums);
    });
}

}  // namespace engine
