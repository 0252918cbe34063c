// The compiled part of clew.ops: plain pointers and no torch headers, so that one build serves every torch.
#include <nanobind/nanobind.h>

namespace nb = nanobind;

namespace {

constexpr const char* instruction_set() {
#if defined(__AVX512F__)
  return "avx512";
#elif defined(__AVX2__) && defined(__FMA__)
  return "avx2+fma";
#elif defined(__ARM_NEON)
  return "neon";
#else
  return "baseline";
#endif
}

nb::dict build_info() {
  nb::dict info;
#if defined(__VERSION__)
  info["compiler"] = __VERSION__;
#else
  info["compiler"] = "unknown";
#endif
  info["instruction_set"] = instruction_set();
  return info;
}

}  // namespace

NB_MODULE(_native, m) {
  m.def("build_info", &build_info, "How this module was built: compiler and instruction set.");
}
