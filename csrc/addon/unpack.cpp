#include "addon/unpack.h"

#include "addon/handles.h"

namespace longer::addon {

namespace {

Napi::TypeError bad(const Napi::Value& value, const std::string& what, const char* expected) {
  return Napi::TypeError::New(value.Env(), what + ": expected " + expected);
}

std::string text_of(const Napi::Value& value, const std::string& what) {
  if (!value.IsString()) throw bad(value, what, "a string");
  return value.As<Napi::String>();
}

double number_of(const Napi::Value& value, const std::string& what) {
  if (!value.IsNumber()) throw bad(value, what, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

int64_t whole_of(const Napi::Value& value, const std::string& what) {
  const double number = number_of(value, what);
  if (!(number >= -9007199254740991.0 && number <= 9007199254740991.0) || number != static_cast<double>(static_cast<int64_t>(number)))
    throw bad(value, what, "a whole number");
  return static_cast<int64_t>(number);
}

int index_of(const Napi::Value& value, const std::string& what) {
  const int64_t index = whole_of(value, what);
  if (index < -1 || index > 0x7fffffff) throw bad(value, what, "an index");
  return static_cast<int>(index);
}

Napi::Object object_of(const Napi::Value& value, const std::string& what) {
  if (!value.IsObject()) throw bad(value, what, "an object");
  return value.As<Napi::Object>();
}

template <class Each>
auto list_of(const Napi::Value& value, const std::string& what, Each&& each) {
  if (!value.IsArray()) throw bad(value, what, "an array");
  const Napi::Array array = value.As<Napi::Array>();
  std::vector<decltype(each(Napi::Value(), what))> list;
  list.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::HandleScope scope(value.Env());
    list.push_back(each(array.Get(i), what + "[" + std::to_string(i) + "]"));
  }
  return list;
}

DType dtype_of(const Napi::Value& value, const std::string& what) {
  const std::string name = text_of(value, what);
  if (name == "f32") return DType::f32;
  if (name == "bf16") return DType::bf16;
  if (name == "f16") return DType::f16;
  if (name == "f64") return DType::f64;
  if (name == "i32") return DType::i32;
  throw bad(value, what, "f32, bf16, f16, f64 or i32");
}

Place place_of(const Napi::Value& value, const std::string& what) {
  const std::string name = text_of(value, what);
  if (name == "arena") return Place::arena;
  if (name == "input") return Place::input;
  if (name == "output") return Place::output;
  if (name == "store") return Place::store;
  throw bad(value, what, "arena, input, output or store");
}

Dim dim_of(const Napi::Value& value, const std::string& what) {
  const Napi::Object spec = object_of(value, what);
  Dim dim;
  dim.constant = whole_of(spec.Get("constant"), what + ".constant");
  dim.terms = list_of(spec.Get("terms"), what + ".terms", [](const Napi::Value& term, const std::string& at) {
    const Napi::Object pair = object_of(term, at);
    return std::pair<int, int64_t>(index_of(pair.Get(0u), at), whole_of(pair.Get(1u), at));
  });
  return dim;
}

Value value_of(const Napi::Value& value, const std::string& at) {
  const Napi::Object spec = object_of(value, at);
  Value result;
  result.name = text_of(spec.Get("name"), at + ".name");
  const std::string what = "value '" + result.name + "'";
  result.dtype = dtype_of(spec.Get("dtype"), what + ".dtype");
  result.dims = list_of(spec.Get("dims"), what + ".dims", dim_of);
  result.place = place_of(spec.Get("place"), what + ".place");
  if (result.place == Place::store) {
    result.store = text_of(spec.Get("store"), what + ".store");
    const Napi::Value offset = spec.Get("offset");
    if (!offset.IsUndefined()) result.offset = whole_of(offset, what + ".offset");
  }
  return result;
}

TileRole role_of(const Napi::Value& value, const std::string& what) {
  static const char* const names[] = {"inner", "row", "whole", "sum", "offsets", "segment", "groupOffsets", "group"};
  const std::string name = text_of(value, what);
  for (int i = 0; i < 8; ++i)
    if (name == names[i]) return static_cast<TileRole>(i);
  throw bad(value, what, "a role");
}

Node node_of(const Napi::Value& value, const std::string& at);

std::shared_ptr<const Tile> tile_of(const Napi::Value& value, const std::string& what) {
  const Napi::Object spec = object_of(value, what);
  auto tile = std::make_shared<Tile>();
  tile->symbol = index_of(spec.Get("symbol"), what + ".symbol");
  tile->rows = whole_of(spec.Get("rows"), what + ".rows");
  tile->group_size = whole_of(spec.Get("groupSize"), what + ".groupSize");
  tile->offsets = index_of(spec.Get("offsets"), what + ".offsets");
  tile->group_offsets = index_of(spec.Get("groupOffsets"), what + ".groupOffsets");
  tile->roles = list_of(spec.Get("roles"), what + ".roles", [](const Napi::Value& role, const std::string& at) {
    const Napi::Object pair = object_of(role, at);
    return std::pair<int, TileRole>(index_of(pair.Get(0u), at), role_of(pair.Get(1u), at));
  });
  tile->body = list_of(spec.Get("body"), what + ".body", node_of);
  return tile;
}

Node node_of(const Napi::Value& value, const std::string& at) {
  const Napi::Object spec = object_of(value, at);
  Node node;
  node.name = text_of(spec.Get("name"), at + ".name");
  const std::string what = "node '" + node.name + "'";
  node.op = text_of(spec.Get("op"), what + ".op");
  node.inputs = list_of(spec.Get("inputs"), what + ".inputs", index_of);
  node.outputs = list_of(spec.Get("outputs"), what + ".outputs", index_of);
  node.attrs = list_of(spec.Get("attrs"), what + ".attrs", number_of);
  const Napi::Value tile = spec.Get("tile");
  if (!tile.IsUndefined()) node.tile = tile_of(tile, what + ".tile");
  return node;
}

}  // namespace

Backend backend_of(const Napi::Value& value) {
  const std::string name = text_of(value, "backend");
  if (name == "cpu") return Backend::cpu;
  if (name == "reference") return Backend::reference;
  if (name == "cuda") return Backend::cuda;
  throw bad(value, "backend", "cpu, reference or cuda");
}

GraphDescription graph_of(const Napi::Value& value) {
  const Napi::Object spec = object_of(value, "graph");
  GraphDescription graph;
  graph.symbols = list_of(spec.Get("symbols"), "symbols", text_of);
  graph.values = list_of(spec.Get("values"), "values", value_of);
  graph.nodes = list_of(spec.Get("nodes"), "nodes", node_of);
  graph.tf32 = spec.Get("tf32").ToBoolean();
  return graph;
}

std::vector<StoreDescription> stores_of(const Napi::Value& list) {
  return list_of(list, "stores", [](const Napi::Value& value, const std::string& at) {
    const Napi::Object spec = object_of(value, at);
    StoreDescription store;
    store.name = text_of(spec.Get("name"), at + ".name");
    const std::string what = "store '" + store.name + "'";
    store.dtype = dtype_of(spec.Get("dtype"), what + ".dtype");
    store.size = whole_of(spec.Get("size"), what + ".size");
    return store;
  });
}

std::vector<double> sizes_of(const Napi::Value& value) {
  const Borrowed array = array_of(value, "sizes");
  if (array.dtype != DType::f64) throw bad(value, "sizes", "a Float64Array");
  const double* data = static_cast<const double*>(array.data);
  return {data, data + array.count};
}

bool read_array(const Napi::Value& value, Borrowed& array) {
  napi_typedarray_type type;
  size_t length = 0;
  if (napi_get_typedarray_info(value.Env(), value, &type, &length, &array.data, nullptr, nullptr) != napi_ok) return false;
  array.count = static_cast<int64_t>(length);
  array.absent = false;
  if (type == napi_float32_array) array.dtype = DType::f32;
  else if (type == napi_float64_array) array.dtype = DType::f64;
  else if (type == napi_int32_array) array.dtype = DType::i32;
  else if (type == napi_uint16_array) array.dtype = DType::bf16;
  else return false;
  return true;
}

bool read_device_array(const Napi::Value& value, Borrowed& array, const std::string& what) {
  if (!value.IsObject() || value.IsTypedArray() || value.IsDataView()) return false;
  const Napi::Object spec = value.As<Napi::Object>();
  if (!spec.Has("memory")) return false;
  const auto box = box_of<MemoryBox>(spec.Get("memory"));
  const int64_t offset = whole_of(spec.Get("offset"), what + ".offset"), count = whole_of(spec.Get("length"), what + ".length");
  array.dtype = dtype_of(spec.Get("dtype"), what + ".dtype");
  const int64_t size = dtype_size(array.dtype), bytes = box->memory->bytes();
  if (offset < 0 || offset % 256 != 0 || offset > bytes || count < 0 || count > (bytes - offset) / size)
    throw bad(value, what, "a part of the memory that begins at a multiple of 256 bytes");
  array.memory = box->memory;
  array.data = static_cast<char*>(box->memory->data()) + offset;
  array.count = count;
  array.absent = false;
  return true;
}

Borrowed array_of(const Napi::Value& value, const std::string& what) {
  Borrowed array;
  if (!read_array(value, array)) throw bad(value, what, "a Float32Array, Float64Array, Int32Array or Uint16Array");
  return array;
}

}  // namespace longer::addon
