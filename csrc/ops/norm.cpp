#include "ops/norm.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "core/status.h"
#include "dispatch/table.h"
#include "ops/layout.h"

namespace engine {

namespace {

constexpr int64_t kChannelBlock = 64;
constexpr int64_t kManyChunks = 16;

// Runs the statistics kernel over all chunks of all groups of `pixels` adjacent pixels; chunk k of
// group g writes to row g * chunks + k of the partials.
void chunk_statistics(const ChannelView& x, int64_t groups, int64_t pixels, int64_t chunks,
                      int64_t per_chunk, float* mean, float* m2, float* sum) {
    // Few chunks (a fully connected layer) are shared out by channels too.
    const int64_t items = groups * chunks;
    const int64_t width = items >= kManyChunks ? x.channels : kChannelBlock;
    const int64_t blocks = (x.channels + width - 1) / width;
    const int64_t work = 4 * std::min(per_chunk, pixels) * std::min(width, x.channels);
    parallel_for(items * blocks, grain_of(work), [&](int64_t begin, int64_t end, int) {
        for (int64_t item = begin; item < end; ++item) {
            const int64_t row = item / blocks, first = item % blocks * width;
            const int64_t group = row / chunks, start = row % chunks * per_chunk;
            ChannelStatsArgs a{};
            a.src = x.data() + (group * pixels + start) * x.ld + first;
            a.src_ld = x.ld;
            a.channels = std::min(width, x.channels - first);
            a.pixels = std::min(per_chunk, pixels - start);
            a.mean = mean + row * x.channels + first;
            a.m2 = m2 + row * x.channels + first;
            a.sum = sum + row * x.channels + first;
            kernels().channel_stats(a);
        }
    });
}

struct AffineMap {
    const float *mean, *scale, *shift;
    int64_t image_step;  // between the parameters of two images; 0 = shared by all
    const ChannelView* residual = nullptr;
    Activation activation = Activation::none;
};

// y = activation((x - mean) * scale + shift + residual), last pixels first: they were read last and
// are still near.
void apply_affine(const ChannelView& x, const Array& y, const AffineMap& map) {
    const int64_t channels = x.channels, ld = pixel_stride(y);
    each_block_backwards(x, map.image_step != 0, [&](int64_t image, int64_t begin, int64_t end) {
        ChannelAffineArgs a{};
        a.src = x.data() + begin * x.ld;
        a.dst = y.f32() + begin * ld;
        a.src_ld = x.ld, a.dst_ld = ld, a.channels = channels, a.pixels = end - begin;
        a.mean = map.mean + image * map.image_step;
        a.scale = map.scale + image * map.image_step;
        a.shift = map.shift + image * map.image_step;
        if (map.residual) {
            a.residual = map.residual->data() + begin * map.residual->ld;
            a.residual_ld = map.residual->ld;
        }
        a.activation = map.activation;
        a.stream = streams(y, channels);
        kernels().channel_affine(a);
    });
}

Array row_major(const Array& a, const Dims& shape) {
    Dims strides;
    strides.n = shape.n;
    int64_t step = 1;
    for (int i = shape.n - 1; i >= 0; --i) {
        strides[i] = step;
        step *= shape[i];
    }
    return a.view(shape, strides, a.offset());
}

void expect_eps(const char* op, double eps) {
    ENGINE_CHECK(eps >= 0 && std::isfinite(eps), Kind::value, "[", op, "] expected eps >= 0, got ",
                 eps, ": use a small positive number such as 1e-5");
}

}  // namespace

int64_t pixels_per_chunk(int64_t channels) {
    return std::clamp<int64_t>(16384 / std::max<int64_t>(1, channels), 64, 1024);
}

Array channel_parameter(const char* op, const char* name, const Array& parameter, int64_t size) {
    expect_f32(op, name, parameter);
    ENGINE_CHECK(parameter.rank() == 1 && parameter.dim(0) == size, Kind::value, "[", op,
                 "] expected ", name, " of shape (", size, ",), got ", to_string(parameter.shape()),
                 ": it needs one value per channel");
    return contiguous(parameter);
}

ChannelView channel_view(const char* op, const char* name, const Array& a) {
    expect_f32(op, name, a);
    ENGINE_CHECK(a.rank() >= 2 && a.rank() <= 4, Kind::value, "[", op, "] expected ", name,
                 " of rank 2 (N, C), 3 (N, C, L) or 4 (N, C, H, W), got shape ",
                 to_string(a.shape()), ": reshape it to one of these");
    Array four = a;
    if (a.rank() == 2)
        four = a.view({a.dim(0), a.dim(1), 1, 1},
                      {a.stride(0), a.stride(1), a.stride(0), a.stride(0)}, a.offset());
    if (a.rank() == 3)
        four = a.view({a.dim(0), a.dim(1), 1, a.dim(2)},
                      {a.stride(0), a.stride(1), a.stride(0), a.stride(2)}, a.offset());
    four = as_pixels(four);
    return {four, four.dim(0), four.dim(1), four.dim(2) * four.dim(3), pixel_stride(four)};
}

Array new_pixels(const Dims& shape) {
    if (shape.n == 2) return empty({shape[0], shape[1], 1, 1});
    if (shape.n == 3) return empty({shape[0], shape[1], 1, shape[2]});
    return empty(shape);
}

Array restore(const Array& pixels, const Dims& shape) {
    if (shape.n == 2) return pixels.view(shape, {shape[1], 1}, 0);
    if (shape.n == 3) return contiguous(pixels.view(shape, {shape[1] * shape[2], 1, shape[1]}, 0));
    return pixels;
}

void expect_same_shape(const char* op, const char* name, const Array& a, const Array& input) {
    ENGINE_CHECK(a.shape() == input.shape(), Kind::value, "[", op, "] expected ", name,
                 " of the input's shape ", to_string(input.shape()), ", got ", to_string(a.shape()),
                 ": make them equal");
}

BatchNormed batch_norm(const Array& input, const Array* weight, const Array* bias,
                       const Array* running_mean, const Array* running_var, bool training,
                       double momentum, double eps, const Array* residual, Activation activation,
                       const Array* given) {
    const char* op = "batch_norm";
    expect_eps(op, eps);
    const ChannelView x = channel_view(op, "input", input);
    ChannelView added;
    if (residual) {
        added = channel_view(op, "residual", *residual);
        expect_same_shape(op, "residual", *residual, input);
    }
    if (given) {
        ENGINE_CHECK(input.rank() == 4, Kind::value, "[", op,
                     "] expected an input (N, C, H, W) with out, got shape ",
                     to_string(input.shape()), ": reshape it, or leave out away");
        (void)destination(op, given, input.shape());
        expect_apart(op, "input", x.array, *given, Aliasing::same_view);
        if (residual) expect_apart(op, "residual", added.array, *given, Aliasing::same_view);
    }
    const int64_t channels = x.channels, count = x.images * x.pixels;
    const Array w = weight ? channel_parameter(op, "weight", *weight, channels) : Array();
    const Array b = bias ? channel_parameter(op, "bias", *bias, channels) : Array();
    for (const Array* running : {running_mean, running_var})
        if (running)
            (void)channel_parameter(op, running == running_mean ? "running_mean" : "running_var",
                                    *running, channels);
    ENGINE_CHECK(training || (running_mean && running_var), Kind::value, "[", op,
                 "] expected running_mean and running_var with training=False, got none: pass both "
                 "or use training=True");
    ENGINE_CHECK(!training || count != 1, Kind::value, "[", op,
                 "] expected more than 1 value per channel when training, got input of shape ",
                 to_string(input.shape()),
                 ": use a larger batch, drop the last incomplete one, or call eval()");
    ENGINE_CHECK(momentum >= 0 && momentum <= 1, Kind::value, "[", op,
                 "] expected momentum between 0 and 1, got ", momentum,
                 ": PyTorch's default is 0.1");

    BatchNormed out{given ? *given : new_pixels(input.shape()), empty({channels}),
                    empty({channels}), empty({channels})};
    if (given) given->mark_written();
    Workspace parameters(static_cast<size_t>(channels) * sizeof(float));
    float *scale = parameters.f32(), *shift = out.shift.f32();
    float *mean_out = out.mean.f32(), *invstd_out = out.invstd.f32();
    // Fills the outputs and parameters of one channel.
    const auto finish = [&](int64_t c, double mean, double variance) {
        const double invstd = 1.0 / std::sqrt(variance + eps);
        mean_out[c] = static_cast<float>(mean);
        invstd_out[c] = static_cast<float>(invstd);
        // In single precision as in the backward pass, which must see the same signs.
        scale[c] = w.defined() ? invstd_out[c] * w.f32()[c] : invstd_out[c];
        // The part of the mean that float does not hold goes into the shift.
        const double rest = std::isfinite(mean) ? mean - static_cast<double>(mean_out[c]) : 0.0;
        shift[c] = static_cast<float>((b.defined() ? static_cast<double>(b.f32()[c]) : 0.0) -
                                      rest * static_cast<double>(scale[c]));
    };

    if (!training) {
        const float *mean = running_mean->f32(), *variance = running_var->f32();
        const int64_t mean_step = running_mean->stride(0), variance_step = running_var->stride(0);
        for (int64_t c = 0; c < channels; ++c)
            finish(c, static_cast<double>(mean[c * mean_step]),
                   static_cast<double>(variance[c * variance_step]));
    } else if (count == 0) {
        std::fill_n(mean_out, channels, 0.0f);
        std::fill_n(invstd_out, channels, 0.0f);
        std::fill_n(shift, channels, 0.0f);
        out.y = restore(out.y, input.shape());
        return out;
    } else {
        const int64_t per_chunk = pixels_per_chunk(channels),
                      chunks = (count + per_chunk - 1) / per_chunk;
        Workspace partials(static_cast<size_t>(3 * chunks * channels) * sizeof(float));
        Workspace totals(static_cast<size_t>(2 * channels) * sizeof(double));
        float *means = partials.f32(), *m2s = means + chunks * channels;
        auto* mean = static_cast<double*>(totals.data());
        double* m2 = mean + channels;
        chunk_statistics(x, 1, count, chunks, per_chunk, means, m2s, m2s + chunks * channels);
        const double all = static_cast<double>(count);
        parallel_for(channels, grain_of(8 * chunks), [&](int64_t begin, int64_t end, int) {
            std::fill(mean + begin, mean + end, 0.0);
            std::fill(m2 + begin, m2 + end, 0.0);
            for (int64_t k = 0; k < chunks; ++k) {
                const double n = static_cast<double>(std::min(per_chunk, count - k * per_chunk));
                for (int64_t c = begin; c < end; ++c)
                    mean[c] += n * static_cast<double>(means[k * channels + c]);
            }
            for (int64_t c = begin; c < end; ++c) mean[c] /= all;
            for (int64_t k = 0; k < chunks; ++k) {
                const double n = static_cast<double>(std::min(per_chunk, count - k * per_chunk));
                for (int64_t c = begin; c < end; ++c) {
                    const double d = static_cast<double>(means[k * channels + c]) - mean[c];
                    m2[c] += static_cast<double>(m2s[k * channels + c]) + n * d * d;
                }
            }
            for (int64_t c = begin; c < end; ++c) finish(c, mean[c], m2[c] / all);
        });
        if (running_mean) {
            float* p = running_mean->f32();
            const int64_t step = running_mean->stride(0);
            for (int64_t c = 0; c < channels; ++c)
                p[c * step] = static_cast<float>(
                    (1.0 - momentum) * static_cast<double>(p[c * step]) + momentum * mean[c]);
            running_mean->mark_written();
        }
        if (running_var) {
            float* p = running_var->f32();
            const int64_t step = running_var->stride(0);
            for (int64_t c = 0; c < channels; ++c)
                p[c * step] =
                    static_cast<float>((1.0 - momentum) * static_cast<double>(p[c * step]) +
                                       momentum * (m2[c] / (all - 1.0)));
            running_var->mark_written();
        }
    }
    apply_affine(x, out.y, {mean_out, scale, shift, 0, residual ? &added : nullptr, activation});
    out.y = restore(out.y, input.shape());
    return out;
}

Normed group_norm(const Array& input, int64_t groups, const Array* weight, const Array* bias,
                  double eps) {
    const char* op = "group_norm";
    expect_eps(op, eps);
    const ChannelView x = channel_view(op, "input", input);
    const int64_t channels = x.channels, pixels = x.pixels, images = x.images;
    ENGINE_CHECK(groups >= 1 && channels % groups == 0, Kind::value, "[", op,
                 "] expected groups to divide the ", channels, " channels of input shape ",
                 to_string(input.shape()), ", got ", groups, ": use a divisor of ", channels);
    const Array w = weight ? channel_parameter(op, "weight", *weight, channels) : Array();
    const Array b = bias ? channel_parameter(op, "bias", *bias, channels) : Array();
    Normed out{new_pixels(input.shape()), empty({images, groups}), empty({images, groups})};
    if (input.numel() == 0) {
        std::fill_n(out.mean.f32(), images * groups, 0.0f);
        std::fill_n(out.invstd.f32(), images * groups, 0.0f);
        return {restore(out.y, input.shape()), out.mean, out.invstd};
    }
    const int64_t per_chunk = pixels_per_chunk(channels),
                  chunks = (pixels + per_chunk - 1) / per_chunk;
    const int64_t width = channels / groups;
    Workspace partials(static_cast<size_t>(3 * images * chunks * channels) * sizeof(float));
    Workspace parameters(static_cast<size_t>(3 * images * channels) * sizeof(float));
    float *means = partials.f32(), *m2s = means + images * chunks * channels;
    float *mean = parameters.f32(), *scale = mean + images * channels,
          *shift = scale + images * channels;
    chunk_statistics(x, images, pixels, chunks, per_chunk, means, m2s,
                     m2s + images * chunks * channels);
    const double all = static_cast<double>(width * pixels);
    parallel_for(
        images * groups, grain_of(8 * chunks * width), [&](int64_t begin, int64_t end, int) {
            for (int64_t item = begin; item < end; ++item) {
                const int64_t image = item / groups, first = item % groups * width;
                const int64_t base = image * chunks * channels + first;
                double total = 0, m2 = 0;
                for (int64_t k = 0; k < chunks; ++k) {
                    const double n =
                        static_cast<double>(std::min(per_chunk, pixels - k * per_chunk));
                    for (int64_t c = 0; c < width; ++c)
                        total += n * static_cast<double>(means[base + k * channels + c]);
                }
                const double group_mean = total / all;
                for (int64_t k = 0; k < chunks; ++k) {
                    const double n =
                        static_cast<double>(std::min(per_chunk, pixels - k * per_chunk));
                    for (int64_t c = 0; c < width; ++c) {
                        const double d =
                            static_cast<double>(means[base + k * channels + c]) - group_mean;
                        m2 += static_cast<double>(m2s[base + k * channels + c]) + n * d * d;
                    }
                }
                const double invstd = 1.0 / std::sqrt(m2 / all + eps);
                const float rounded = static_cast<float>(group_mean);
                const double rest =
                    std::isfinite(group_mean) ? group_mean - static_cast<double>(rounded) : 0.0;
                out.mean.f32()[item] = rounded;
                out.invstd.f32()[item] = static_cast<float>(invstd);
                for (int64_t c = first; c < first + width; ++c) {
                    const double scaled =
                        w.defined() ? invstd * static_cast<double>(w.f32()[c]) : invstd;
                    mean[image * channels + c] = rounded;
                    scale[image * channels + c] = static_cast<float>(scaled);
                    shift[image * channels + c] = static_cast<float>(
                        (b.defined() ? static_cast<double>(b.f32()[c]) : 0.0) - rest * scaled);
                }
            }
        });
    apply_affine(x, out.y, {mean, scale, shift, channels});
    return {restore(out.y, input.shape()), out.mean, out.invstd};
}

RowView row_view(const char* op, const Array& x, int64_t n_dims) {
    expect_f32(op, "input", x);
    ENGINE_CHECK(n_dims >= 1 && n_dims <= x.rank(), Kind::value, "[", op,
                 "] expected between 1 and ", x.rank(), " normalised axes for input of shape ",
                 to_string(x.shape()), ", got ", n_dims,
                 ": normalized_shape must be the end of the input's shape");
    const int rank = x.rank(), first = rank - static_cast<int>(n_dims);
    RowView view{x, 1, 1, false};
    for (int i = 0; i < rank; ++i) (i < first ? view.rows : view.columns) *= x.dim(i);
    // In place: dense, and no normalised axis lies outside an axis that is not.
    view.in_place = x.numel() > 0 && x.is_dense();
    for (int i = 0; i < first; ++i)
        for (int j = first; j < rank; ++j)
            if (x.dim(i) != 1 && x.dim(j) != 1 && x.stride(i) < x.stride(j)) view.in_place = false;
    if (!view.in_place) view.array = contiguous(reshape(x, {view.rows, view.columns}));
    return view;
}

Array row_parameter(const char* op, const char* name, const Array& parameter, const Array& x,
                    int64_t n_dims, bool in_place) {
    expect_f32(op, name, parameter);
    Dims shape, strides;
    bool same = parameter.rank() == n_dims;
    for (int i = x.rank() - static_cast<int>(n_dims); i < x.rank(); ++i) {
        shape.push_back(x.dim(i));
        strides.push_back(x.stride(i));
    }
    ENGINE_CHECK(parameter.shape() == shape, Kind::value, "[", op, "] expected ", name,
                 " of shape ", to_string(shape), " for input of shape ", to_string(x.shape()),
                 ", got ", to_string(parameter.shape()),
                 ": normalized_shape must be the end of the input's shape");
    const int64_t columns = parameter.numel();
    if (!in_place) strides = row_major(parameter, shape).strides();
    for (int i = 0; i < shape.n; ++i)
        same = same && (shape[i] == 1 || parameter.stride(i) == strides[i]);
    if (same) return parameter;
    const Array out = empty({columns});
    copy_into(out.view(shape, strides, 0), parameter);
    return out;
}

Array restore_rows(const Array& rows, const Array& x, const RowView& view) {
    if (view.in_place) return rows;
    return contiguous(row_major(rows, x.shape()));
}

Normed layer_norm(const Array& x, int64_t n_dims, const Array* weight, const Array* bias,
                  double eps) {
    const char* op = "layer_norm";
    expect_eps(op, eps);
    const RowView view = row_view(op, x, n_dims);
    const Array w =
        weight ? row_parameter(op, "weight", *weight, x, n_dims, view.in_place) : Array();
    const Array b = bias ? row_parameter(op, "bias", *bias, x, n_dims, view.in_place) : Array();
    const Array y = empty_like(view.array);
    Normed out{y, empty({view.rows}), empty({view.rows})};
    if (x.numel() == 0) {
        std::fill_n(out.mean.f32(), view.rows, 0.0f);
        std::fill_n(out.invstd.f32(), view.rows, 0.0f);
    } else {
        parallel_for(view.rows, grain_of(4 * view.columns), [&](int64_t begin, int64_t end, int) {
            RowNormArgs a{};
            a.src = view.array.f32(), a.dst = y.f32();
            a.columns = view.columns, a.row_begin = begin, a.row_end = end;
            a.weight = w.defined() ? w.f32() : nullptr;
            a.bias = b.defined() ? b.f32() : nullptr;
            a.eps = eps;
            a.mean = out.mean.f32(), a.invstd = out.invstd.f32();
            kernels().row_norm_forward(a);
        });
    }
    out.y = restore_rows(y, x, view);
    return out;
}

Array local_response_norm(const Array& input, int64_t size, double alpha, double beta, double k) {
    const char* op = "local_response_norm";
    ENGINE_CHECK(input.rank() == 3 || input.rank() == 4, Kind::value, "[", op,
                 "] expected input of rank 3 (N, C, L) or 4 (N, C, H, W), got shape ",
                 to_string(input.shape()), ": reshape it to one of these");
    ENGINE_CHECK(size >= 1 && size <= INT32_MAX, Kind::value, "[", op, "] expected size >= 1, got ",
                 size, ": it is the number of neighbouring channels");
    const ChannelView x = channel_view(op, "input", input);
    const Array y = new_pixels(input.shape());
    const int64_t total = x.images * x.pixels;
    if (y.numel() == 0) return restore(y, input.shape());
    // A window wider than all channels sees no more of them.
    const int64_t before = std::min(size / 2, x.channels);
    const int64_t after = std::min(size - 1 - size / 2, x.channels);
    const int64_t scratch = (x.channels + before + after + 15) / 16 * 16;
    Workspace squares(static_cast<size_t>(num_threads() * scratch) * sizeof(float));
    parallel_for(total, grain_of((before + after + 9) * x.channels),
                 [&](int64_t begin, int64_t end, int thread) {
                     ResponseNormArgs a{};
                     a.src = x.data() + begin * x.ld;
                     a.dst = y.f32() + begin * x.channels;
                     a.src_ld = x.ld, a.dst_ld = x.channels, a.channels = x.channels,
                     a.pixels = end - begin;
                     a.before = before, a.after = after;
                     a.alpha_over_size = static_cast<float>(alpha / static_cast<double>(size));
                     a.beta = static_cast<float>(beta), a.k = static_cast<float>(k);
                     a.squares = squares.f32() + thread * scratch;
                     kernels().response_norm_forward(a);
                 });
    return restore(y, input.shape());
}

}  // namespace engine
