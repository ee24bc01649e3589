# A bridge for tools that expect node-gyp: the build itself is CMakeLists.txt.
{
  'targets': [{
    'target_name': 'cmake_bridge', 'type': 'none',
    'actions': [{
      'action_name': 'cmake_js',
      'inputs': ['CMakeLists.txt'],
      'outputs': ['<(PRODUCT_DIR)/longer_rec.node'],
      'action': ['node', 'scripts/build-native.cjs'],
    }],
  }],
}
