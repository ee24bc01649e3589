#include <cmath>
#include <limits>

#include "kernels/rows_kernels.h"
#include "kernels/write_quantised_rows.h"

namespace longer::reference {

// In f32, as quantised_rows.h says: a tie must fall the same way in every kernel.
void write_quantised_rows(const Call& call) {
  const WriteQuantisedRowsArgs a = write_quantised_rows_args(call);
  check_places(a);
  const int64_t head_width = a.width / a.heads;
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t g = 0; g < a.heads; ++g) {
      const double* x = a.x.f64() + i * a.width + g * head_width;
      float most = 0;
      for (int64_t c = 0; c < head_width; ++c) {
        const float size = std::fabs(static_cast<float>(x[c]));
        most = std::isfinite(size) ? std::fmax(most, size) : std::numeric_limits<float>::quiet_NaN();
        if (std::isnan(most)) break;
      }
      const int64_t at = a.index.i32()[i];
      a.to().set_scale(at, g, most < kLeastQuantised ? 0.0f : most / 127);
      for (int64_t c = 0; c < head_width; ++c)
        a.to().numbers(at, g)[c] = most >= kLeastQuantised ? static_cast<int8_t>(std::nearbyint(static_cast<float>(x[c]) * (127 / most))) : int8_t{0};
    }
}

}  // namespace longer::reference
