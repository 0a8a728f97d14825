#include "ops/algorithm.h"

#include "core/env.h"
#include "core/status.h"

namespace engine {

namespace {

std::string forced;

std::string describe(const Conv& c) {
    std::string text = "n" + std::to_string(c.n) + " ic" + std::to_string(c.ic) + " ih" +
                       std::to_string(c.ih) + " iw" + std::to_string(c.iw) + " oc" +
                       std::to_string(c.oc) + " kh" + std::to_string(c.kh) + " kw" +
                       std::to_string(c.kw);
    if (c.stride_h != 1 || c.stride_w != 1)
        text += " s" + std::to_string(c.stride_h) + "x" + std::to_string(c.stride_w);
    if (c.dilation_h != 1 || c.dilation_w != 1)
        text += " d" + std::to_string(c.dilation_h) + "x" + std::to_string(c.dilation_w);
    if (c.groups != 1) text += " g" + std::to_string(c.groups);
    return text;
}

template <class Run>
bool has(const std::vector<ConvAlgorithm<Run>>& list, const std::string& name) {
    for (const auto& algorithm : list)
        if (name == algorithm.name) return true;
    return false;
}

}  // namespace

void set_conv_algorithm(const std::string& name) {
    ENGINE_CHECK(name.empty() || has(conv_forward_algorithms(), name) ||
                     has(conv_backward_data_algorithms(), name) ||
                     has(conv_backward_weight_algorithms(), name),
                 Kind::value,
                 "[set_algorithm] expected '' or a name that conv2d_algorithms lists, got '", name,
                 "'");
    forced = name;
}

std::string forced_conv_algorithm() { return forced; }

template <class Run>
const ConvAlgorithm<Run>& choose(const char* op, const std::vector<ConvAlgorithm<Run>>& list,
                                 const Conv& conv) {
    std::string log;
    const bool obey = !forced.empty() && has(list, forced);
    for (const auto& algorithm : list) {
        const bool excluded = obey && forced != algorithm.name;
        const std::string reason = excluded ? "another is forced" : algorithm.declines(conv);
        if (reason.empty()) {
            if (verbosity() > 0)
                log_line(std::string(op) + " " + describe(conv) + ": " + algorithm.name + log);
            return algorithm;
        }
        ENGINE_CHECK(excluded || !obey, Kind::value, "[", op, "] the forced algorithm '", forced,
                     "' declines ", describe(conv), ": ", reason);
        if (verbosity() > 0) log += std::string("; not ") + algorithm.name + ": " + reason;
    }
    fail(Kind::runtime, "[", op, "] no algorithm for ", describe(conv));
}
template const ConvAlgorithm<ConvForward>& choose(const char*,
                                                  const std::vector<ConvAlgorithm<ConvForward>>&,
                                                  const Conv&);
template const ConvAlgorithm<ConvBackwardData>& choose(
    const char*, const std::vector<ConvAlgorithm<ConvBackwardData>>&, const Conv&);
template const ConvAlgorithm<ConvBackwardWeight>& choose(
    const char*, const std::vector<ConvAlgorithm<ConvBackwardWeight>>&, const Conv&);

}  // namespace engine
