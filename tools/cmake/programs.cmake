# SPDX-License-Identifier: Apache-2.0
# The command line tool, the examples and the benchmarks.
enable_testing()
find_package(MPI QUIET COMPONENTS CXX) # for ranks that are processes

if(HULL_HAS_IO AND EXISTS "${PROJECT_SOURCE_DIR}/tools/hull.cpp")
  find_package(CLI11 REQUIRED)
  file(GLOB cli_sources CONFIGURE_DEPENDS tools/*.cpp tools/cli/*.cpp)
  add_executable(hull_cli ${cli_sources})
  set_target_properties(hull_cli PROPERTIES OUTPUT_NAME hull)
  target_link_libraries(hull_cli PRIVATE hull_io_dev CLI11::CLI11)
  # It compiles networks at run time: with these headers and this compiler.
  target_compile_definitions(hull_cli PRIVATE HULL_SOURCE_DIR="${PROJECT_SOURCE_DIR}" HULL_CXX="${CMAKE_CXX_COMPILER}")
  if(MPI_CXX_FOUND)
    target_compile_definitions(hull_cli PRIVATE HULL_MPI)
    target_link_libraries(hull_cli PRIVATE MPI::MPI_CXX)
  endif()
  install(TARGETS hull_cli COMPONENT tools)
endif()

# examples/NN_name.cpp: one program and one test each, so that none can rot.
set(example_sources examples/*.cpp)
if(HULL_CUDA)
  list(APPEND example_sources examples/*.cu)
endif()
file(GLOB example_sources CONFIGURE_DEPENDS ${example_sources})
foreach(source IN LISTS example_sources)
  cmake_path(GET source STEM name)
  cmake_path(GET source EXTENSION extension)
  add_executable(example_${name} "${source}")
  target_link_libraries(example_${name} PRIVATE hull_dev)
  if(extension STREQUAL .cu)
    target_link_libraries(example_${name} PRIVATE hull_cuda_dev)
  endif()
  add_test(NAME example.${name} COMMAND example_${name})
  set_tests_properties(example.${name} PROPERTIES LABELS example TIMEOUT 300 WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
  if(extension STREQUAL .cu)
    set_tests_properties(example.${name} PROPERTIES LABELS "example;gpu" SKIP_RETURN_CODE 77) # 77: no device
  endif()
endforeach()

# bench/name.cpp: `cmake --build --preset release --target bench` builds all of them, nothing else does.
if(HULL_BENCH)
  find_package(benchmark QUIET)
endif()
if(benchmark_FOUND)
  add_custom_target(bench)
  file(GLOB bench_sources CONFIGURE_DEPENDS bench/*.cpp)
  foreach(source IN LISTS bench_sources)
    cmake_path(GET source STEM name)
    add_executable(bench_${name} EXCLUDE_FROM_ALL "${source}")
    target_link_libraries(bench_${name} PRIVATE hull_dev benchmark::benchmark_main)
    if(MPI_CXX_FOUND)
      target_compile_definitions(bench_${name} PRIVATE HULL_MPI)
      target_link_libraries(bench_${name} PRIVATE MPI::MPI_CXX)
    endif()
    add_dependencies(bench bench_${name})
  endforeach()
endif()

# bench/cuda.cu: one program for each network in it, named as bench/gpu_compare.py calls them. bench_cuda builds all.
if(HULL_BENCH AND HULL_CUDA)
  add_custom_target(bench_cuda)
  foreach(network IN ITEMS mnist_256x2 mnist_256x4 mnist_256x6 random_4x2048 random_4x4096 random_4x8192 random_3x16384
                           conv)
    add_executable(bench_cuda_${network} EXCLUDE_FROM_ALL bench/cuda.cu)
    target_link_libraries(bench_cuda_${network} PRIVATE hull_cuda_dev)
    target_compile_definitions(bench_cuda_${network} PRIVATE HULL_BENCH_WORK=${network})
    add_dependencies(bench_cuda bench_cuda_${network})
  endforeach()
endif()

# bench/multi_gpu.cu: one program for each network and policy, named as bench/multi_gpu.sh calls them. bench_multi_gpu
# builds all.
if(HULL_BENCH AND TARGET hull_nccl_dev)
  add_custom_target(bench_multi_gpu)
  foreach(network IN ITEMS random_4x4096 random_4x8192 random_4x16384 resnet_large)
    foreach(place IN ITEMS Replicated/1 Replicated/0 FullySharded/0 TensorParallel/2 TensorParallel/4 TensorParallel/8)
      cmake_path(GET place PARENT_PATH policy)
      cmake_path(GET place FILENAME ranks)
      set(program bench_multi_gpu_${network}_${policy}_${ranks}_Fp32)
      add_executable(${program} EXCLUDE_FROM_ALL bench/multi_gpu.cu)
      target_link_libraries(${program} PRIVATE hull_nccl_dev)
      target_compile_definitions(${program} PRIVATE HULL_BENCH_WORK=${network} HULL_BENCH_POLICY=${policy}
                                                    HULL_BENCH_RANKS=${ranks})
      add_dependencies(bench_multi_gpu ${program})
    endforeach()
  endforeach()
endif()
