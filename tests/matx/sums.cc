// The contract's small model, as operators on arrays.

#include <matxscript/pipeline/op_kernel.h>
#include <matxscript/runtime/container.h>

using namespace ::matxscript::runtime;

constexpr DLDevice kHere{kDLCPU, 0};
constexpr DLDataType kFloat32{kDLFloat, 32, 1};

NDArray Checked(const NDArray& array, int dims, int bytes) {
  MXCHECK(array.GetDim() == dims && array.IsContiguous()) << "expected " << dims << " dimensions";
  MXCHECK((array->dtype.bits + 7) / 8 == bytes) << "expected elements of " << bytes << " bytes";
  return array;
}

class AddToRows : public OpKernel {
 public:
  RTValue Process(PyArgs inputs) const override {
    CheckArgs(inputs.size(), 2);
    NDArray x = Checked(inputs[0].As<NDArray>(), 2, 4), k = Checked(inputs[1].As<NDArray>(), 1, 8);
    const int64_t rows = x.GetShapePtr()[0], columns = x.GetShapePtr()[1];
    MXCHECK(k.GetShapePtr()[0] == rows) << "expected one number a row";
    NDArray y = NDArray::Empty(x.GetShapePtr(), 2, kFloat32, kHere);
    const float* from = x.Data<float>();
    float* to = const_cast<float*>(y.Data<float>());
    for (int64_t i = 0; i < rows * columns; ++i) to[i] = from[i] + static_cast<float>(k.Data<int64_t>()[i / columns]);
    return RTValue(y);
  }
};

class SumOfRows : public OpKernel {
 public:
  RTValue Process(PyArgs inputs) const override {
    CheckArgs(inputs.size(), 1);
    NDArray x = Checked(inputs[0].As<NDArray>(), 2, 4);
    const int64_t rows = x.GetShapePtr()[0], columns = x.GetShapePtr()[1];
    NDArray total = NDArray::Empty(&rows, 1, kFloat32, kHere);
    float* to = const_cast<float*>(total.Data<float>());
    for (int64_t i = 0; i < rows; ++i) {
      to[i] = 0;
      for (int64_t j = 0; j < columns; ++j) to[i] += x.Data<float>()[i * columns + j];
    }
    return RTValue(total);
  }
};

class Negated : public OpKernel {
 public:
  RTValue Process(PyArgs inputs) const override {
    CheckArgs(inputs.size(), 1);
    NDArray flags = Checked(inputs[0].As<NDArray>(), 1, 1);
    const int64_t rows = flags.GetShapePtr()[0];
    NDArray no = NDArray::Empty(&rows, 1, flags->dtype, kHere);
    bool* to = const_cast<bool*>(no.Data<bool>());
    for (int64_t i = 0; i < rows; ++i) to[i] = !flags.Data<bool>()[i];
    return RTValue(no);
  }
};

MATX_REGISTER_NATIVE_OP(AddToRows);
MATX_REGISTER_NATIVE_OP(SumOfRows);
MATX_REGISTER_NATIVE_OP(Negated);
