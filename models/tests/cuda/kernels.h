// All kernels, for the host.
#pragma once
#include "emulation.h"

#include "device.cuh"
#include "tensor_core.cuh"

// Every file in a namespace of its own, as it is a module of its own on the device.
namespace column_sums_kernels {
#include "column_sums.cu"
}
#undef KERNELS
namespace layer_norm_kernels {
#include "layer_norm.cu"
}
#undef KERNELS
namespace activation_kernels {
#include "activation.cu"
}
#undef KERNELS
namespace cross_entropy_kernels {
#include "cross_entropy.cu"
}
#undef KERNELS
namespace residual_kernels {
#include "residual.cu"
}
#undef KERNELS
namespace max_pool_kernels {
#include "max_pool.cu"
}
#undef KERNELS
namespace windows_kernels {
#include "windows.cu"
}
#undef KERNELS
namespace optimizer_kernels {
#include "optimizer.cu"
}
#undef KERNELS
namespace resize_kernels {
#include "resize.cu"
}
#undef KERNELS
namespace attention_kernels {
#include "attention.cu"
}
#undef KERNELS
namespace attention_plain_kernels {
#include "attention_plain.cu"
}
#undef KERNELS
