// SPDX-License-Identifier: Apache-2.0
// What launchers put into the environment of a rank, and what is refused there.
#include <doctest/doctest.h>
#include <map>
#include <string>

#include <hull/shard/launch.hpp>

using namespace hull;

TEST_CASE("what launchers say") {
  using variables = std::map<std::string, std::string>;
  auto const read = [](variables const& set) {
    return read_launch([&](char const* name) {
      auto const found = set.find(name);
      return found == set.end() ? nullptr : found->second.c_str();
    });
  };
  auto const refused = [&](variables const& set, std::string const& what) {
    CAPTURE(what);
    CHECK_THROWS_WITH_AS(static_cast<void>(read(set)), doctest::Contains(what.c_str()), error);
  };
  variables const torch{
      {"RANK", "3"}, {"WORLD_SIZE", "4"}, {"LOCAL_RANK", "1"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "9"}};
  auto const with = [&](variables set) {
    set.insert(torch.begin(), torch.end());
    return set;
  };
  auto const l = read(torch);
  CHECK((l.rank == 3 && l.size == 4 && l.local_rank == 1U && l.address == "a" && l.port == 9));
  CHECK(read(with({{"TORCHELASTIC_USE_AGENT_STORE", "True"}})).port == 10);
  CHECK(read(with({{"HULL_RENDEZVOUS", "/f"}})).file == "/f");
  CHECK(read({{"RANK", "0"}, {"WORLD_SIZE", "1"}}).size == 1);

  refused({}, "nothing says which rank this is");
  refused({{"RANK", "0"}}, "RANK is set, WORLD_SIZE is not");
  refused({{"WORLD_SIZE", "2"}}, "WORLD_SIZE is set, RANK is not");
  refused(with({{"WORLD_SIZE", "3"}}), "RANK is 3, but WORLD_SIZE is 3");
  refused(with({{"RANK", "-1"}}), "RANK: found '-1'");
  refused(with({{"WORLD_SIZE", "0"}}), "WORLD_SIZE is 0");
  refused(with({{"MASTER_PORT", "65535"}}), "MASTER_PORT is 65535");
  refused({{"RANK", "0"}, {"WORLD_SIZE", "2"}}, "MASTER_ADDR is not");
  refused({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}}, "MASTER_PORT is not");

  variables mpirun{{"OMPI_COMM_WORLD_RANK", "1"},       {"OMPI_COMM_WORLD_SIZE", "2"},
                   {"OMPI_COMM_WORLD_LOCAL_RANK", "1"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                   {"PMIX_NAMESPACE", "7@1"},           {"SLURM_PROCID", "0"}};
  CHECK((read(mpirun).rank == 1 && read(mpirun).address == "127.0.0.1" && read(mpirun).port >= 20000));
  mpirun["OMPI_COMM_WORLD_LOCAL_SIZE"] = "1";
  refused(mpirun, "need MASTER_ADDR");

  variables srun{{"SLURM_PROCID", "5"}, {"SLURM_NTASKS", "8"}, {"SLURM_LOCALID", "5"}, {"SLURM_STEP_NUM_NODES", "1"}};
  CHECK((read(srun).rank == 5 && read(srun).local_rank == 5U && read(srun).address == "127.0.0.1"));
  srun["SLURM_STEP_NUM_NODES"] = "2";
  refused(srun, "need MASTER_ADDR");
  srun["MASTER_ADDR"] = "node1";
  CHECK(read(srun).address == "node1");
}
