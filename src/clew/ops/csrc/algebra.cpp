// The recurrences that are linear in their state, for one instruction set: compiled once for each, as scan.cpp is.
#include "conv.h"
#include "elementwise.h"
#include "matrix.h"
#include "selective.h"

namespace clew::CLEW_ISA {
namespace {

template <class S>
constexpr AlgebraKernels<S> algebras = {
    {elementwise<S, REAL>, elementwise<S, COMPLEX>, elementwise<S, MAXIMUM>},
    selective<S>,
    matrix<S>,
    conv<S>,
    elementwise_room<S>,
    selective_room<S>,
    matrix_room<S>,
    conv_room<S>,
};

}  // namespace
}  // namespace clew::CLEW_ISA

namespace clew {

const Algebras CLEW_TABLE(algebras, CLEW_ISA) = {CLEW_ISA::algebras<float>, CLEW_ISA::algebras<double>};

}  // namespace clew
