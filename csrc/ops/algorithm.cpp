#include "ops/algorithm.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <mutex>

#include "core/env.h"
#include "core/parallel.h"
#include "core/status.h"
#include "dispatch/table.h"
#include "ops/conv2d_split.h"
#include "ops/split.h"

namespace engine {

namespace {

std::string forced;

enum class Policy { unset, any, direct };
std::atomic<Policy> current_policy{Policy::unset};

Policy parse_policy(const char* what, const std::string& name) {
    ENGINE_CHECK(name == "auto" || name == "direct", Kind::value, "[", what,
                 "] expected 'auto' or 'direct' (no Winograd), got '", name, "'");
    return name == "direct" ? Policy::direct : Policy::any;
}

Policy policy() {
    Policy now = current_policy.load(std::memory_order_relaxed);
    if (now == Policy::unset) {
        now = parse_policy("ENGINE_CONV_ALGORITHM", env_string("ENGINE_CONV_ALGORITHM", "auto"));
        current_policy.store(now, std::memory_order_relaxed);
    }
    return now;
}

std::atomic<bool> autotune{false};
std::atomic<int64_t> measured{0};
std::mutex choices_mutex;
std::map<std::string, std::string>& choices() {
    static auto* known = new std::map<std::string, std::string>;
    return *known;
}

std::string describe(const Conv& c) {
    std::string text = "n" + std::to_string(c.n) + " ic" + std::to_string(c.ic) + " ih" +
                       std::to_string(c.ih) + " iw" + std::to_string(c.iw) + " oc" +
                       std::to_string(c.oc) + " kh" + std::to_string(c.kh) + " kw" +
                       std::to_string(c.kw);
    if (c.stride_h != 1 || c.stride_w != 1)
        text += " s" + std::to_string(c.stride_h) + "x" + std::to_string(c.stride_w);
    if (c.dilation_h != 1 || c.dilation_w != 1)
        text += " d" + std::to_string(c.dilation_h) + "x" + std::to_string(c.dilation_w);
    if (c.pad_top || c.pad_bottom || c.pad_left || c.pad_right)
        text += " p" + std::to_string(c.pad_top) + "," + std::to_string(c.pad_bottom) + "," +
                std::to_string(c.pad_left) + "," + std::to_string(c.pad_right);
    if (c.groups != 1) text += " g" + std::to_string(c.groups);
    return text;
}

template <class Run>
bool has(const std::vector<ConvAlgorithm<Run>>& list, const std::string& name) {
    for (const auto& algorithm : list)
        if (name == algorithm.name) return true;
    return false;
}

// Why a policy or a forced name rules an algorithm out, else why it declines; empty: may be taken.
template <class Run>
std::string objection(const ConvAlgorithm<Run>& algorithm, const Conv& conv, bool obey) {
    if (obey) return forced == algorithm.name ? algorithm.declines(conv) : "another is forced";
    const std::string reason = algorithm.declines(conv);
    if (reason.empty() && policy() == Policy::direct &&
        std::strncmp(algorithm.name, "winograd", 8) == 0)
        return "the policy is direct";
    return reason;
}

// Seconds of one run: the least of several, after one that packs weights and touches memory. Stops
// early when it is clearly slower than `best`.
template <class Run>
double measure(const ConvAlgorithm<Run>& algorithm,
               const std::function<void(const ConvAlgorithm<Run>&)>& run, double best) {
    using Clock = std::chrono::steady_clock;
    run(algorithm);
    double least = 1e300, total = 0;
    for (int i = 0; i < 7 && (i < 3 || total < 0.02); ++i) {
        const auto start = Clock::now();
        run(algorithm);
        const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
        least = std::min(least, seconds);
        total += seconds;
        if (least > 2 * best) break;
    }
    return least;
}

// The remembered choice, or one measured now; null when that one may not be taken (any more).
template <class Run>
const ConvAlgorithm<Run>* tuned(const char* op, const std::vector<ConvAlgorithm<Run>>& list,
                                const Conv& conv,
                                const std::function<void(const ConvAlgorithm<Run>&)>& run) {
    const std::string key = std::string(op) + " " + describe(conv) + " isa " + isa() + " threads " +
                            std::to_string(num_threads()) +
                            (policy() == Policy::direct ? " direct" : "");
    std::string name;
    {
        std::lock_guard<std::mutex> lock(choices_mutex);
        const auto known = choices().find(key);
        if (known != choices().end()) name = known->second;
    }
    if (name.empty()) {
        double best = 1e300;
        // The reference is last in every list: it runs where nothing else does.
        for (const auto& algorithm : list) {
            if (!objection(algorithm, conv, false).empty()) continue;
            if (!name.empty() && std::strcmp(algorithm.name, "reference") == 0) continue;
            const double seconds = measure(algorithm, run, best);
            if (verbosity() > 0)
                log_line("tuning " + key + ": " + algorithm.name + " " +
                         std::to_string(seconds * 1e3) + " ms");
            if (seconds < best) best = seconds, name = algorithm.name;
        }
        measured.fetch_add(1);
        std::lock_guard<std::mutex> lock(choices_mutex);
        // Another thread may have measured the same problem: all take the first answer.
        name = choices().emplace(key, name).first->second;
    }
    for (const auto& algorithm : list)
        if (name == algorithm.name && objection(algorithm, conv, false).empty()) return &algorithm;
    return nullptr;
}

}  // namespace

// The constants are fitted, so that the order of the estimates is that of times measured on two
// cores of a Xeon with AVX-512 (3 x 3, 16 to 512 channels, 2 x 2 to 56 x 56 pixels, batch 1 to 16);
// they are not measurements of their own.
double cycles(const Work& work) {
    const double lanes = kernels().lanes, narrow = work.columns <= kernels().lanes ? 0.7 : 1.0;
    const double share_of_peak = narrow * (work.reduction ? 0.7 : 0.85);
    return work.multiply_adds / (2 * lanes * share_of_peak) + 0.1 * work.weight_bytes +
           0.2 * work.moved_bytes;
}

namespace {

Work direct_work(const Conv& c, int64_t columns) {
    const double weights = static_cast<double>(c.kh * c.kw * c.group_ic() * c.oc);
    Work work{};
    work.multiply_adds = weights * static_cast<double>(c.n * c.oh * c.ow);
    work.columns = columns;
    work.weight_bytes = 4 * weights;
    return work;
}

// A sum over pixels, for a gradient of the weight.
Work pixels_work(const Conv& c) {
    Work work = direct_work(c, c.group_oc());
    work.reduction = true;
    work.weight_bytes = 0;
    return work;
}

Work im2col_work(const Conv& c) {
    Work work = pixels_work(c);
    work.moved_bytes = 4 * static_cast<double>(c.n * c.oh * c.ow * (c.kh * c.kw * c.ic + c.oc));
    return work;
}

}  // namespace

double direct_cost(const Conv& c) { return cycles(direct_work(c, c.group_oc())); }
double direct_data_cost(const Conv& c) { return cycles(direct_work(c, c.group_ic())); }
double direct_weight_cost(const Conv& c) {
    Work work = pixels_work(c);
    const int64_t floats = c.kh * c.kw * c.group_ic() * c.oc;
    // Partial sums are cleared, written and read.
    work.moved_bytes = 8 * static_cast<double>(floats * reduction_parts(c, floats));
    // A kernel of one tap meets too few products between copies.
    return cycles(work) * (c.kh * c.kw == 1 ? 1.7 : 1.0);
}
double im2col_weight_cost(const Conv& c) { return cycles(im2col_work(c)); }

namespace {

// Six products of parts at sixteen times the rate: 2.6 times as fast, about 2 with their making;
// with several taps 1.7, less what fills up tiles. Weights have six bytes, and tiles wait for them.
Work split_work(const Conv& c, int64_t columns, int64_t depth) {
    Work work = direct_work(c, columns);
    work.multiply_adds /= c.kh * c.kw == 1 ? 2 : 1.7 * split_use(columns) * split_use(depth);
    work.weight_bytes *= 1.5 * 1.5;
    return work;
}

}  // namespace

double split_cost(const Conv& c) {
    return cycles(split_work(c, c.group_oc(), split_window(c) * c.ic));
}
double split_data_cost(const Conv& c) { return cycles(split_work(c, c.group_ic(), c.group_oc())); }
double split_weight_cost(const Conv& c) {
    Work work = im2col_work(c);
    work.multiply_adds /= 2;
    work.moved_bytes *= 2;  // split, not only copied
    return cycles(work);
}

void set_conv_algorithm(const std::string& name) {
    ENGINE_CHECK(name.empty() || has(conv_forward_algorithms(), name) ||
                     has(conv_backward_data_algorithms(), name) ||
                     has(conv_backward_weight_algorithms(), name),
                 Kind::value,
                 "[set_algorithm] expected '' or a name that conv2d_algorithms lists, got '", name,
                 "'");
    forced = name;
}

void set_conv_policy(const std::string& name) {
    current_policy.store(parse_policy("set_conv_algorithm", name));
}

std::string conv_policy() { return policy() == Policy::direct ? "direct" : "auto"; }

void set_autotune(bool on) { autotune.store(on); }

std::map<std::string, std::string> tuned_choices() {
    std::lock_guard<std::mutex> lock(choices_mutex);
    return choices();
}

void set_tuned_choices(const std::map<std::string, std::string>& known) {
    std::lock_guard<std::mutex> lock(choices_mutex);
    choices() = known;
}

int64_t tuned_problems() { return measured.load(); }

template <class Run>
const ConvAlgorithm<Run>* preferred(const std::vector<ConvAlgorithm<Run>>& list, const Conv& conv) {
    const ConvAlgorithm<Run>* best = nullptr;
    double least = 0;
    for (const auto& algorithm : list) {
        if (!(best && !algorithm.cost) && objection(algorithm, conv, false).empty()) {
            if (!algorithm.cost) return &algorithm;
            const double cost = algorithm.cost(conv);
            if (!best || cost < least) best = &algorithm, least = cost;
        }
    }
    return best;
}

template <class Run>
const ConvAlgorithm<Run>& choose(const char* op, const std::vector<ConvAlgorithm<Run>>& list,
                                 const Conv& conv,
                                 const std::function<void(const ConvAlgorithm<Run>&)>& run) {
    const bool obey = !forced.empty() && has(list, forced);
    if (!obey && autotune.load(std::memory_order_relaxed))
        if (const ConvAlgorithm<Run>* algorithm = tuned(op, list, conv, run)) {
            if (verbosity() > 0)
                log_line(std::string(op) + " " + describe(conv) + ": " + algorithm->name +
                         ", as measured");
            return *algorithm;
        }
    const ConvAlgorithm<Run>* taken = nullptr;
    if (obey) {
        for (const auto& algorithm : list)
            if (forced == algorithm.name) taken = &algorithm;
        const std::string reason = taken->declines(conv);
        ENGINE_CHECK(reason.empty(), Kind::value, "[", op, "] the forced algorithm '", forced,
                     "' declines ", describe(conv), ": ", reason);
    } else {
        taken = preferred(list, conv);
    }
    if (!taken) fail(Kind::runtime, "[", op, "] no algorithm for ", describe(conv));
    if (verbosity() > 0) {
        std::string log = std::string(op) + " " + describe(conv) + ": " + taken->name;
        for (const auto& algorithm : list) {
            const std::string reason = objection(algorithm, conv, obey);
            if (!reason.empty())
                log += std::string("; not ") + algorithm.name + ": " + reason;
            else if (!obey && algorithm.cost)
                log += std::string("; ") + algorithm.name + " needs about " +
                       std::to_string(static_cast<int64_t>(algorithm.cost(conv))) + " cycles";
        }
        log_line(log);
    }
    return *taken;
}
#define ENGINE_INSTANCES(Run)                                                            \
    template const ConvAlgorithm<Run>* preferred(const std::vector<ConvAlgorithm<Run>>&, \
                                                 const Conv&);
ENGINE_INSTANCES(ConvForward)
ENGINE_INSTANCES(ConvBackwardData)
ENGINE_INSTANCES(ConvBackwardWeight)
#undef ENGINE_INSTANCES
template const ConvAlgorithm<ConvForward>& choose(
    const char*, const std::vector<ConvAlgorithm<ConvForward>>&, const Conv&,
    const std::function<void(const ConvAlgorithm<ConvForward>&)>&);
template const ConvAlgorithm<ConvBackwardData>& choose(
    const char*, const std::vector<ConvAlgorithm<ConvBackwardData>>&, const Conv&,
    const std::function<void(const ConvAlgorithm<ConvBackwardData>&)>&);
template const ConvAlgorithm<ConvBackwardWeight>& choose(
    const char*, const std::vector<ConvAlgorithm<ConvBackwardWeight>>&, const Conv&,
    const std::function<void(const ConvAlgorithm<ConvBackwardWeight>&)>&);

}  // namespace engine
