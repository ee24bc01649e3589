#pragma once

namespace longer {

enum class Activation : int { none = 0, gelu = 1, relu = 2, silu = 3, tanh = 4, sigmoid = 5 };

}  // namespace longer
