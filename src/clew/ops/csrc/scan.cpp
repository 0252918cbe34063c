// One thread's part of a pass, for one instruction set: compiled once for each, with CLEW_ISA and CLEW_BYTES set.
//
// Nothing from the standard library but types: what is compiled here must not be shared with other instruction sets.
#include "backward.h"
#include "forward.h"

namespace clew::CLEW_ISA {
namespace {

template <class S>
constexpr Kernels<S> kernels = {
    Simd<S>::V,
    {forward<S, ELMAN>, forward<S, GRU>, forward<S, LSTM>},
    {backward<S, ELMAN>, backward<S, GRU>, backward<S, LSTM>},
    pack_product<S, S>,
    pack_transposed<S>,
};

}  // namespace
}  // namespace clew::CLEW_ISA

namespace clew {

const ScanKernels CLEW_TABLE(scans, CLEW_ISA) = {CLEW_ISA::kernels<float>, CLEW_ISA::kernels<double>};

}  // namespace clew
