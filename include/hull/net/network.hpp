// SPDX-License-Identifier: Apache-2.0
// All that a description of a network needs: the expression language and every operator.
#pragma once

#include <hull/net/expression.hpp>
#include <hull/net/fuse.hpp>
#include <hull/net/graph.hpp>
#include <hull/net/parameters.hpp>
#include <hull/ops/add_constant.hpp>
#include <hull/ops/average_pool.hpp>
#include <hull/ops/batch_normalization.hpp>
#include <hull/ops/concat.hpp>
#include <hull/ops/conv.hpp>
#include <hull/ops/div_constant.hpp>
#include <hull/ops/dropout.hpp>
#include <hull/ops/flatten.hpp>
#include <hull/ops/global_average_pool.hpp>
#include <hull/ops/identity.hpp>
#include <hull/ops/leaky_relu.hpp>
#include <hull/ops/linear.hpp>
#include <hull/ops/max_pool.hpp>
#include <hull/ops/mul_constant.hpp>
#include <hull/ops/neg.hpp>
#include <hull/ops/relu.hpp>
#include <hull/ops/reshape.hpp>
#include <hull/ops/sigmoid.hpp>
#include <hull/ops/slice.hpp>
#include <hull/ops/spread.hpp>
#include <hull/ops/squeeze.hpp>
#include <hull/ops/sub_constant.hpp>
#include <hull/ops/sum.hpp>
#include <hull/ops/tanh.hpp>
#include <hull/ops/transpose.hpp>
#include <hull/ops/unsqueeze.hpp>
#include <hull/ops/upsample.hpp>
