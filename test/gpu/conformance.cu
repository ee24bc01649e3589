// Compares every function of ptx.cuh on the first GPU with the emulator: `conformance [RECORD.json [COMMIT]]`. Exit status: 0 all
// the same, 1 not, 2 there is no GPU. The record holds device, date, commit and the words that differ of each case.
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>

// The driver's, under another name than the emulator's in the same program.
#define tensor_map_2d tensor_map_2d_of_driver
#include "gpu/conformance_kernels.cuh"
#include "kernels/cuda/tensor_map.cu"

namespace {

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "conformance: %s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

std::vector<uint32_t> run_on_gpu(const Entry& entry, const std::vector<uint32_t>& in) {
  std::vector<uint32_t> out(static_cast<size_t>(entry.about.out));
  uint32_t *from = nullptr, *to = nullptr;
  check(cudaMalloc(&from, in.size() * 4), "cudaMalloc");
  check(cudaMalloc(&to, out.size() * 4), "cudaMalloc");
  check(cudaMemcpy(from, in.data(), in.size() * 4, cudaMemcpyHostToDevice), "cudaMemcpy");
  check(cudaMemset(to, 0xff, out.size() * 4), "cudaMemset");
  entry.run({from, to}, longer::Stream{});
  check(cudaDeviceSynchronize(), entry.about.name);
  check(cudaMemcpy(out.data(), to, out.size() * 4, cudaMemcpyDeviceToHost), "cudaMemcpy");
  check(cudaFree(from), "cudaFree");
  check(cudaFree(to), "cudaFree");
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  constexpr int kRounds = 50;
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("conformance: no GPU here, nothing was run\n");
    return 2;
  }
  cudaDeviceProp gpu{};
  check(cudaGetDeviceProperties(&gpu, 0), "cudaGetDeviceProperties");
  std::string record;
  int wrong = 0;
  for (int i = 0; i < kEntryCount; ++i) {
    const Case& about = kEntries[i].about;
    const bool runs = about.architecture == 900 ? gpu.major == 9 : gpu.major * 10 >= about.architecture;
    int words = 0;
    conformance::Words random(1000 + i);
    for (int round = 0; runs && round < kRounds; ++round) {
      const std::vector<uint32_t> in = random.fill(about.fill, about.in);
      words += conformance::differences(about, i, in, run_on_gpu(kEntries[i], in));
    }
    wrong += words > 0;
    const std::string verdict = !runs ? "not on this GPU" : words ? std::to_string(words) + " words differ" : "same";
    std::printf("%-40s %s\n", about.name, verdict.c_str());
    record += std::string(record.empty() ? "" : ",\n") + "    {\"wrapper\": \"" + about.name + "\", \"result\": \"" + verdict + "\"}";
  }
  char date[32];
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  if (argc > 1) {
    std::FILE* file = std::fopen(argv[1], "w");
    if (!file) {
      std::fprintf(stderr, "conformance: %s cannot be written\n", argv[1]);
      return 1;
    }
    std::fprintf(file, "{\n  \"device\": \"%s\", \"capability\": \"%d.%d\", \"date\": \"%s\", \"commit\": \"%s\", \"rounds\": %d,\n  \"cases\": [\n%s\n  ]\n}\n", gpu.name,
                 gpu.major, gpu.minor, date, argc > 2 ? argv[2] : "unknown", kRounds, record.c_str());
    std::fclose(file);
  }
  std::printf("conformance: %d of %d cases differ on %s\n", wrong, kEntryCount, gpu.name);
  return wrong ? 1 : 0;
}
