// An operator of somebody's own: how many commas a text has.

#include <matxscript/pipeline/op_kernel.h>
#include <matxscript/runtime/container.h>

using namespace ::matxscript::runtime;

class CountCommas : public OpKernel {
 public:
  RTValue Process(PyArgs inputs) const override {
    CheckArgs(inputs.size(), 1);
    int64_t count = 0;
    for (char each : inputs[0].As<string_view>()) count += each == ',';
    return RTValue(count);
  }
};

MATX_REGISTER_NATIVE_OP(CountCommas);
