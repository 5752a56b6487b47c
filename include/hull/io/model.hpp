// SPDX-License-Identifier: Apache-2.0
// A network as read from a file: the run-time side of net/. Every node is one operator of the expression language.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace hull::io {

using shape = std::vector<std::size_t>;  // without the batch dimension, row major

/// The numbers of one parameter, "fc1.weight".
struct tensor {
  io::shape shape;
  std::vector<float> values;  // [product of shape], all finite
  bool rounded = false;       // some value of the file was no float; values hold the nearest ones
};

/// One operator application. `op` and `attributes` are spelled as in the expression language (docs/operators.md).
struct node {
  std::string op;                   // "Conv"
  std::string name;                 // "conv1", the key of its parameters; empty if it has none
  std::vector<std::size_t> inputs;  // indices of earlier nodes
  io::shape shape;                  // of its output
  std::map<std::string, std::vector<std::int64_t>> attributes;  // "kernel": {3, 3}
  std::string tensor;                                           // name of its output in the file
};

/// nodes[0] is the Input, the last node is the output; inputs come before their consumers.
struct model {
  std::string source;
  std::vector<node> nodes;
  std::map<std::string, tensor> parameters;
};

}  // namespace hull::io
