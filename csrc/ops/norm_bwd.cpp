#include "ops/norm_bwd.h"

#include <algorithm>
#include <vector>

#include "core/parallel.h"
#include "core/status.h"
#include "dispatch/table.h"
#include "ops/layout.h"
#include "ops/norm.h"

namespace engine {

namespace {

constexpr int64_t kChannelBlock = 64;
constexpr int64_t kManyChunks = 16;

void expect_same_shape(const char* op, const Array& dy, const Array& x) {
    ENGINE_CHECK(dy.shape() == x.shape(), Kind::value, "[", op,
                 "] expected dy of the input's shape ", to_string(x.shape()), ", got ",
                 to_string(dy.shape()), ": pass the gradient of the forward result");
}

// Statistics kept from the forward pass: float32, this shape, stride 1.
Array expect_saved(const char* op, const char* name, const Array& a, const Dims& shape) {
    expect_f32(op, name, a);
    ENGINE_CHECK(a.shape() == shape, Kind::value, "[", op, "] expected ", name, " of shape ",
                 to_string(shape), ", got ", to_string(a.shape()),
                 ": pass what the forward call gave");
    return contiguous(a);
}

// What lies between dy and the gradient g of the normalised values.
struct Through {
    Activation activation = Activation::none;
    const float *scale = nullptr, *shift = nullptr;  // of what the activation saw
    const ChannelView* kept = nullptr;
    const Array* g = nullptr;  // written where there is `kept`
};

// Channel sums of g and g * (x - mean) for each of `groups` runs of `pixels` adjacent pixels,
// into double arrays [groups][channels]; the mean of run k stands at mean + k * mean_step.
void gradient_sums(const ChannelView& dy, const ChannelView& x, int64_t groups, int64_t pixels,
                   const float* mean, int64_t mean_step, const Through& through, double* sum_g,
                   double* sum_g_x) {
    const int64_t channels = x.channels, per_chunk = pixels_per_chunk(channels);
    const int64_t chunks = (pixels + per_chunk - 1) / per_chunk, items = groups * chunks;
    Workspace partials(static_cast<size_t>(2 * items * channels) * sizeof(float));
    float *sums = partials.f32(), *sums_x = sums + items * channels;
    const int64_t width = items >= kManyChunks ? channels : kChannelBlock;
    const int64_t blocks = (channels + width - 1) / width;
    const int64_t work = 4 * std::min(per_chunk, pixels) * std::min(width, channels);
    parallel_for(items * blocks, grain_of(work), [&](int64_t begin, int64_t end, int) {
        for (int64_t item = begin; item < end; ++item) {
            const int64_t row = item / blocks, first = item % blocks * width;
            const int64_t group = row / chunks, start = row % chunks * per_chunk;
            const int64_t pixel = group * pixels + start;
            ChannelGradSumsArgs a{};
            a.dy = dy.data() + pixel * dy.ld + first;
            a.x = x.data() + pixel * x.ld + first;
            a.dy_ld = dy.ld, a.x_ld = x.ld;
            a.channels = std::min(width, channels - first);
            a.pixels = std::min(per_chunk, pixels - start);
            a.mean = mean + group * mean_step + first;
            a.activation = through.activation;
            if (through.scale) a.scale = through.scale + first, a.shift = through.shift + first;
            if (through.kept) {
                a.kept = through.kept->data() + pixel * through.kept->ld + first;
                a.g = through.g->f32() + pixel * channels + first;
                a.kept_ld = through.kept->ld, a.g_ld = channels;
                a.stream = streams(*through.g, channels);
            }
            a.sum_g = sums + row * channels + first;
            a.sum_g_x = sums_x + row * channels + first;
            kernels().channel_grad_sums(a);
        }
    });
    const int64_t all_channels = groups * channels;
    parallel_for(all_channels, grain_of(4 * chunks), [&](int64_t begin, int64_t end, int) {
        std::fill(sum_g + begin, sum_g + end, 0.0);
        std::fill(sum_g_x + begin, sum_g_x + end, 0.0);
        while (begin < end) {
            const int64_t group = begin / channels, stop = std::min(end, (group + 1) * channels);
            for (int64_t k = 0; k < chunks; ++k) {
                // Entry i of the totals is channel i - group * channels of this group's chunks.
                const float* row = sums + (group * chunks + k) * channels - group * channels;
                const float* row_x = sums_x + (group * chunks + k) * channels - group * channels;
                for (int64_t i = begin; i < stop; ++i) {
                    sum_g[i] += static_cast<double>(row[i]);
                    sum_g_x[i] += static_cast<double>(row_x[i]);
                }
            }
            begin = stop;
        }
    });
}

struct GradientMap {
    const float *mean, *g_scale, *x_scale, *g_shift;
    int64_t image_step;  // between the parameters of two images; 0 = shared by all
    bool uses_x;
    Activation activation = Activation::none;
    const float* shift = nullptr;
};

void apply_gradient(const ChannelView& dy, const ChannelView& x, const Array& dx,
                    const GradientMap& map) {
    each_block_backwards(x, map.image_step != 0, [&](int64_t image, int64_t begin, int64_t end) {
        ChannelGradArgs a{};
        a.dy = dy.data() + begin * dy.ld;
        a.x = map.uses_x ? x.data() + begin * x.ld : nullptr;
        a.dx = dx.f32() + begin * x.channels;
        a.dy_ld = dy.ld, a.x_ld = x.ld, a.dx_ld = x.channels;
        a.channels = x.channels, a.pixels = end - begin;
        a.mean = map.mean + image * map.image_step;
        a.g_scale = map.g_scale + image * map.image_step;
        a.x_scale = map.x_scale + image * map.image_step;
        a.g_shift = map.g_shift + image * map.image_step;
        a.shift = map.shift;
        a.activation = map.activation;
        a.stream = streams(dx, x.channels);
        kernels().channel_grad(a);
    });
}

Array zeros(const Dims& shape) {
    Array out = empty(shape);
    std::fill_n(out.f32(), out.numel(), 0.0f);
    return out;
}

}  // namespace

BatchNormGradients batch_norm_backward(const Array& dy_given, const Array& x_given,
                                       const Array* weight, const Array& mean_given,
                                       const Array& invstd_given, bool training,
                                       const Array* shift_given, const Array* kept_given,
                                       Activation activation) {
    const char* op = "batch_norm_backward";
    const ChannelView dy = channel_view(op, "dy", dy_given), x = channel_view(op, "input", x_given);
    expect_same_shape(op, "dy", dy_given, x_given);
    const int64_t channels = x.channels, count = x.images * x.pixels;
    const Array w = weight ? channel_parameter(op, "weight", *weight, channels) : Array();
    const Array mean = expect_saved(op, "mean", mean_given, {channels});
    const Array invstd = expect_saved(op, "invstd", invstd_given, {channels});
    const bool activated = activation != Activation::none, masked = activated && kept_given;
    ENGINE_CHECK(!activated || shift_given, Kind::value, "[", op,
                 "] expected shift with an activation, got None: pass what the forward call gave");
    const Array z_shift = activated ? expect_saved(op, "shift", *shift_given, {channels}) : Array();
    ChannelView kept;
    if (masked) {
        kept = channel_view(op, "kept", *kept_given);
        expect_same_shape(op, "kept", *kept_given, x_given);
    }
    const Array dx = new_pixels(x_given.shape());
    const Array g = masked ? new_pixels(x_given.shape()) : Array();
    BatchNormGradients out{dx, empty({channels}), empty({channels}), g};
    if (count == 0) {
        out.dweight = zeros({channels}), out.dbias = zeros({channels});
    } else {
        Workspace totals(static_cast<size_t>(2 * channels) * sizeof(double));
        Workspace parameters(static_cast<size_t>(3 * channels) * sizeof(float));
        auto* sum_g = static_cast<double*>(totals.data());
        double* sum_g_x = sum_g + channels;
        float *g_scale = parameters.f32(), *x_scale = g_scale + channels;
        float* g_shift = x_scale + channels;
        for (int64_t c = 0; c < channels; ++c)
            g_scale[c] = w.defined() ? invstd.f32()[c] * w.f32()[c] : invstd.f32()[c];
        Through through{activation};
        if (activated) through.scale = g_scale, through.shift = z_shift.f32();
        if (masked) through.kept = &kept, through.g = &g;
        gradient_sums(dy, x, 1, count, mean.f32(), 0, through, sum_g, sum_g_x);
        for (int64_t c = 0; c < channels; ++c) {
            const double inv = static_cast<double>(invstd.f32()[c]);
            const double scale = w.defined() ? inv * static_cast<double>(w.f32()[c]) : inv;
            out.dweight.f32()[c] = static_cast<float>(sum_g_x[c] * inv);
            out.dbias.f32()[c] = static_cast<float>(sum_g[c]);
            // Without batch statistics the gradient is a factor only.
            const double share = training ? -scale / static_cast<double>(count) : 0.0;
            x_scale[c] = static_cast<float>(share * inv * inv * sum_g_x[c]);
            g_shift[c] = static_cast<float>(share * sum_g[c]);
        }
        GradientMap map{mean.f32(), g_scale, x_scale,
                        g_shift,    0,       training || (activated && !masked)};
        if (activated && !masked) map.activation = activation, map.shift = z_shift.f32();
        apply_gradient(masked ? channel_view(op, "g", g) : dy, x, dx, map);
    }
    out.dx = restore(dx, x_given.shape());
    if (masked) out.dresidual = restore(g, x_given.shape());
    return out;
}

std::pair<Array, Array> channel_scale_backward(const Array& dy_given, const Array& x_given,
                                               const Array& scale_given) {
    const char* op = "channel_scale_backward";
    const ChannelView dy = channel_view(op, "dy", dy_given), x = channel_view(op, "input", x_given);
    expect_same_shape(op, "dy", dy_given, x_given);
    expect_rank(op, "input", x_given, 4);
    expect_f32(op, "scale", scale_given);
    const int64_t images = x.images, channels = x.channels;
    ENGINE_CHECK(scale_given.shape() == (Dims{images, channels, 1, 1}), Kind::value, "[", op,
                 "] expected scale of shape ", to_string({images, channels, 1, 1}), ", got ",
                 to_string(scale_given.shape()), ": one factor per image and channel");
    const Array scale = contiguous(scale_given);
    const Array dx = empty(x_given.shape()), dscale = empty({images, channels, 1, 1});
    if (dscale.numel() == 0) return {dx, dscale};
    const int64_t per_chunk = pixels_per_chunk(channels);
    const int64_t chunks = (x.pixels + per_chunk - 1) / per_chunk;
    Workspace partials(static_cast<size_t>(images * chunks * channels) * sizeof(float));
    parallel_for(images * chunks, grain_of(4 * std::min(per_chunk, x.pixels) * channels),
                 [&](int64_t begin, int64_t end, int) {
                     for (int64_t item = begin; item < end; ++item) {
                         const int64_t image = item / chunks, start = item % chunks * per_chunk;
                         const int64_t pixel = image * x.pixels + start;
                         ChannelScaleGradArgs a{};
                         a.dy = dy.data() + pixel * dy.ld, a.dy_ld = dy.ld;
                         a.x = x.data() + pixel * x.ld, a.x_ld = x.ld;
                         a.scale = scale.f32() + image * channels;
                         a.dx = dx.f32() + pixel * channels, a.dx_ld = channels;
                         a.stream = streams(dx, channels);
                         a.sum = partials.f32() + item * channels;
                         a.channels = channels;
                         a.pixels = std::min(per_chunk, x.pixels - start);
                         kernels().channel_scale_grad(a);
                     }
                 });
    parallel_for(images * channels, grain_of(2 * chunks), [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            const float* first = partials.f32() + i / channels * chunks * channels + i % channels;
            double total = 0;
            for (int64_t k = 0; k < chunks; ++k) total += static_cast<double>(first[k * channels]);
            dscale.f32()[i] = static_cast<float>(total);
        }
    });
    return {dx, dscale};
}

NormGradients group_norm_backward(const Array& dy_given, const Array& x_given, const Array* weight,
                                  const Array& mean_given, const Array& invstd_given,
                                  int64_t groups) {
    const char* op = "group_norm_backward";
    const ChannelView dy = channel_view(op, "dy", dy_given), x = channel_view(op, "input", x_given);
    expect_same_shape(op, dy_given, x_given);
    const int64_t channels = x.channels, images = x.images;
    ENGINE_CHECK(groups >= 1 && channels % groups == 0, Kind::value, "[", op,
                 "] expected groups to divide the ", channels, " channels of input shape ",
                 to_string(x_given.shape()), ", got ", groups, ": pass the forward's groups");
    const Array w = weight ? channel_parameter(op, "weight", *weight, channels) : Array();
    const Array mean = expect_saved(op, "mean", mean_given, {images, groups});
    const Array invstd = expect_saved(op, "invstd", invstd_given, {images, groups});
    const Array dx = new_pixels(x_given.shape());
    if (x_given.numel() == 0)
        return {restore(dx, x_given.shape()), zeros({channels}), zeros({channels})};

    NormGradients out{dx, empty({channels}), empty({channels})};
    const int64_t width = channels / groups, entries = images * channels;
    Workspace totals(static_cast<size_t>(2 * entries) * sizeof(double));
    Workspace parameters(static_cast<size_t>(4 * entries) * sizeof(float));
    auto* sum_dy = static_cast<double*>(totals.data());
    double* sum_dy_x = sum_dy + entries;
    float *means = parameters.f32(), *dy_scale = means + entries, *x_scale = dy_scale + entries;
    float* shift = x_scale + entries;
    for (int64_t i = 0; i < entries; ++i)
        means[i] = mean.f32()[i / channels * groups + i % channels / width];
    gradient_sums(dy, x, images, x.pixels, means, channels, {}, sum_dy, sum_dy_x);
    const double all = static_cast<double>(width * x.pixels);
    for (int64_t item = 0; item < images * groups; ++item) {
        const int64_t first = item / groups * channels + item % groups * width;
        const double inv = static_cast<double>(invstd.f32()[item]);
        double total = 0, total_x = 0;
        for (int64_t i = first; i < first + width; ++i) {
            const double scale = w.defined() ? static_cast<double>(w.f32()[i % channels]) : 1.0;
            total += scale * sum_dy[i];
            total_x += scale * sum_dy_x[i];
        }
        for (int64_t i = first; i < first + width; ++i) {
            const double scale = w.defined() ? static_cast<double>(w.f32()[i % channels]) : 1.0;
            dy_scale[i] = static_cast<float>(scale * inv);
            x_scale[i] = static_cast<float>(-inv * inv * inv * total_x / all);
            shift[i] = static_cast<float>(-inv * total / all);
        }
    }
    for (int64_t c = 0; c < channels; ++c) {
        double dweight = 0, dbias = 0;
        for (int64_t image = 0; image < images; ++image) {
            const int64_t i = image * channels + c;
            dweight += sum_dy_x[i] * static_cast<double>(invstd.f32()[image * groups + c / width]);
            dbias += sum_dy[i];
        }
        out.dweight.f32()[c] = static_cast<float>(dweight);
        out.dbias.f32()[c] = static_cast<float>(dbias);
    }
    apply_gradient(dy, x, dx, {means, dy_scale, x_scale, shift, channels, true});
    out.dx = restore(dx, x_given.shape());
    return out;
}

NormGradients layer_norm_backward(const Array& dy_given, const Array& x_given, const Array* weight,
                                  const Array& mean_given, const Array& invstd_given,
                                  int64_t n_dims) {
    const char* op = "layer_norm_backward";
    expect_f32(op, "dy", dy_given);
    expect_same_shape(op, dy_given, x_given);
    const RowView x = row_view(op, x_given, n_dims);
    const int64_t rows = x.rows, columns = x.columns;
    const Array w =
        weight ? row_parameter(op, "weight", *weight, x_given, n_dims, x.in_place) : Array();
    const Array mean = expect_saved(op, "mean", mean_given, {rows});
    const Array invstd = expect_saved(op, "invstd", invstd_given, {rows});
    // dy in the memory order of x's rows.
    Array dy = dy_given;
    if (!x.in_place) {
        dy = contiguous(reshape(dy_given, {rows, columns}));
    } else {
        bool same = true;
        for (int i = 0; i < x_given.rank(); ++i)
            same = same && (x_given.dim(i) == 1 || x_given.stride(i) == dy_given.stride(i));
        if (!same && x_given.numel() > 0) {
            dy = empty_like(x_given);
            copy_into(dy, dy_given);
        }
    }
    Dims parameter_shape, strides;
    for (int i = x_given.rank() - static_cast<int>(n_dims); i < x_given.rank(); ++i) {
        parameter_shape.push_back(x_given.dim(i));
        strides.push_back(x_given.stride(i));
    }
    if (x_given.numel() == 0)
        return {empty(x_given.shape()), zeros(parameter_shape), zeros(parameter_shape)};

    // Chunks of rows: enough for many threads, not so many that their sums outweigh the input.
    const int64_t most = std::max<int64_t>(16, (int64_t{1} << 20) / columns);
    const int64_t wanted = (rows + std::clamp<int64_t>(32768 / columns, 1, 256) - 1) /
                           std::clamp<int64_t>(32768 / columns, 1, 256);
    const int64_t per_chunk = (rows + std::min(most, wanted) - 1) / std::min(most, wanted);
    const int64_t chunks = (rows + per_chunk - 1) / per_chunk;
    const Array dx = empty_like(x.array), dweight = empty({columns}), dbias = empty({columns});
    Workspace partials(static_cast<size_t>(2 * chunks * columns) * sizeof(float));
    float *sums_w = partials.f32(), *sums_b = sums_w + chunks * columns;
    parallel_for(chunks, grain_of(6 * per_chunk * columns), [&](int64_t begin, int64_t end, int) {
        for (int64_t k = begin; k < end; ++k) {
            RowNormBackwardArgs a{};
            a.dy = dy.f32(), a.x = x.array.f32(), a.dx = dx.f32();
            a.columns = columns, a.row_begin = k * per_chunk,
            a.row_end = std::min(rows, (k + 1) * per_chunk);
            a.weight = w.defined() ? w.f32() : nullptr;
            a.mean = mean.f32(), a.invstd = invstd.f32();
            a.dweight = sums_w + k * columns, a.dbias = sums_b + k * columns;
            kernels().row_norm_backward(a);
        }
    });
    parallel_for(columns, grain_of(4 * chunks), [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
            double total_w = 0, total_b = 0;
            for (int64_t k = 0; k < chunks; ++k) {
                total_w += static_cast<double>(sums_w[k * columns + i]);
                total_b += static_cast<double>(sums_b[k * columns + i]);
            }
            dweight.f32()[i] = static_cast<float>(total_w);
            dbias.f32()[i] = static_cast<float>(total_b);
        }
    });
    // The sums stand in the memory order of a row: give them their logical shape.
    if (!x.in_place) {
        int64_t step = 1;
        for (int i = parameter_shape.n - 1; i >= 0; --i) {
            strides[i] = step;
            step *= parameter_shape[i];
        }
    }
    return {restore_rows(dx, x_given, x), contiguous(dweight.view(parameter_shape, strides, 0)),
            contiguous(dbias.view(parameter_shape, strides, 0))};
}

Array local_response_norm_backward(const Array& dy_given, const Array& x_given,
                                   const Array& y_given, int64_t size, double alpha, double beta,
                                   double k) {
    const char* op = "local_response_norm_backward";
    const ChannelView dy = channel_view(op, "dy", dy_given), x = channel_view(op, "input", x_given);
    const ChannelView y = channel_view(op, "y", y_given);
    expect_same_shape(op, dy_given, x_given);
    expect_same_shape(op, y_given, x_given);
    ENGINE_CHECK(size >= 1 && size <= INT32_MAX, Kind::value, "[", op, "] expected size >= 1, got ",
                 size, ": it is the number of neighbouring channels");
    const Array dx = new_pixels(x_given.shape());
    if (dx.numel() == 0) return restore(dx, x_given.shape());
    // A window wider than all channels sees no more of them.
    const int64_t before = std::min(size / 2, x.channels);
    const int64_t after = std::min(size - 1 - size / 2, x.channels);
    const int64_t scratch = (x.channels + before + after + 15) / 16 * 16;
    Workspace buffers(static_cast<size_t>(num_threads() * 2 * scratch) * sizeof(float));
    parallel_for(x.images * x.pixels, grain_of((2 * (before + after) + 18) * x.channels),
                 [&](int64_t begin, int64_t end, int thread) {
                     ResponseNormBackwardArgs a{};
                     a.dy = dy.data() + begin * dy.ld, a.x = x.data() + begin * x.ld,
                     a.y = y.data() + begin * y.ld;
                     a.dx = dx.f32() + begin * x.channels;
                     a.dy_ld = dy.ld, a.x_ld = x.ld, a.y_ld = y.ld, a.dx_ld = x.channels;
                     a.channels = x.channels, a.pixels = end - begin;
                     a.before = before, a.after = after;
                     a.alpha_over_size = static_cast<float>(alpha / static_cast<double>(size));
                     a.beta = static_cast<float>(beta), a.k = static_cast<float>(k);
                     a.squares = buffers.f32() + thread * 2 * scratch;
                     a.shares = a.squares + scratch;
                     kernels().response_norm_backward(a);
                 });
    return restore(dx, x_given.shape());
}

}  // namespace engine
