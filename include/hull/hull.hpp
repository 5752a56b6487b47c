// SPDX-License-Identifier: Apache-2.0
// Everything that needs neither CUDA, NCCL, MPI nor a file: describe a network, bound it, verify it on the CPU.
#pragma once

#include <hull/backend/cpu/bounder.hpp>
#include <hull/backend/cpu/divided_machine.hpp>
#include <hull/backend/cpu/machine.hpp>
#include <hull/backend/cpu/verifier.hpp>
#include <hull/net/network.hpp>
#include <hull/net/parameter_table.hpp>
#include <hull/propagate/bounder.hpp>
#include <hull/propagate/propagation.hpp>
#include <hull/search/verifier.hpp>
#include <hull/shard/any_communicator.hpp>
#include <hull/shard/loopback.hpp>
#include <hull/shard/on.hpp>
