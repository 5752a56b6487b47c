# SPDX-License-Identifier: Apache-2.0
# tests/<folder>/*.cpp mirror include/hull/<folder> and become one program each; ctest label = folder.
find_package(doctest REQUIRED)

add_library(test_main OBJECT tests/main.cpp)
target_link_libraries(test_main PRIVATE doctest::doctest)

# hull_add_test(<name> <label> <library> <sources>...); `sources` in CUDA bring their main function along
function(hull_add_test name label library)
  add_executable(test_${name} ${ARGN})
  target_link_libraries(test_${name} PRIVATE ${library} doctest::doctest)
  if(NOT label MATCHES gpu)
    target_link_libraries(test_${name} PRIVATE test_main)
  endif()
  target_include_directories(test_${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
  # Tests that read HULL_SHARED_DIR skip themselves where that folder is missing.
  target_compile_definitions(test_${name} PRIVATE HULL_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                                                  HULL_SHARED_DIR="${PROJECT_SOURCE_DIR}/../shared")
  add_test(NAME ${name} COMMAND test_${name})
  set_tests_properties(${name} PROPERTIES LABELS "${label}" TIMEOUT 900) # nothing hangs; tools compiles networks
endfunction()

file(GLOB test_folders CONFIGURE_DEPENDS LIST_DIRECTORIES true RELATIVE "${PROJECT_SOURCE_DIR}/tests" tests/*)
list(REMOVE_ITEM test_folders errors consume fuzz mpi)
foreach(folder IN LISTS test_folders)
  file(GLOB sources CONFIGURE_DEPENDS tests/${folder}/*.cpp)
  set(library hull_dev)
  if(folder MATCHES "^(io|tools)$")
    set(library hull_io_dev)
    if(NOT HULL_HAS_IO)
      set(sources)
    endif()
  endif()
  if(sources)
    hull_add_test(${folder} ${folder} ${library} ${sources})
  endif()

  file(GLOB sources CONFIGURE_DEPENDS tests/${folder}/*.cu)
  list(FILTER sources EXCLUDE REGEX "/nccl[.]cu$") # below
  if(HULL_CUDA AND sources)
    hull_add_test(${folder}_cuda "${folder};gpu" hull_cuda_dev ${sources} tests/main.cu)
    set_tests_properties(${folder}_cuda PROPERTIES SKIP_RETURN_CODE 77) # 77: no device
    if(HULL_CUDA_QUICK)
      target_compile_definitions(test_${folder}_cuda PRIVATE HULL_CUDA_QUICK)
    endif()
  endif()
endforeach()
# What vectorisers do to sums where users turn them up, whatever the flags of this build.
if(EXISTS /proc/cpuinfo)
  file(STRINGS /proc/cpuinfo avx2 REGEX "^flags.* avx2 .* fma |^flags.* fma .* avx2 " LIMIT_COUNT 1)
  if(avx2)
    hull_add_test(optimised backend hull::hull tests/backend/lanes.cpp tests/propagate/soundness_dense.cpp
                  tests/propagate/alpha.cpp)
    target_compile_options(test_optimised PRIVATE -O3 -march=x86-64-v3 -fno-math-errno -U_GLIBCXX_ASSERTIONS)
  endif()
endif()
target_compile_definitions(test_shard PRIVATE HULL_BLOCK_BYTES=4096) # small matrices fall into blocks, too
if(TARGET test_shard_cuda)
  target_compile_definitions(test_shard_cuda PRIVATE HULL_BLOCK_BYTES=2048 HULL_DEVICE_BLOCK_BYTES=4096)
endif()
if(TARGET test_tools AND TARGET hull_cli)
  add_dependencies(test_tools hull_cli)
  target_link_libraries(test_tools PRIVATE CLI11::CLI11)
  target_compile_definitions(test_tools PRIVATE HULL_CLI="$<TARGET_FILE:hull_cli>" HULL_CXX="${CMAKE_CXX_COMPILER}")
endif()

# Ranks with a GPU each: one program, which starts itself once for each of them.
if(HULL_CUDA)
  if(TARGET hull_nccl_dev)
    hull_add_test(shard_nccl "shard;gpu" hull_nccl_dev tests/shard/nccl.cu)
    set_tests_properties(shard_nccl PROPERTIES SKIP_RETURN_CODE 77) # 77: no device
  else()
    message(STATUS "tests/shard/nccl.cu is left out: NCCL was not found; NCCL_HOME may name its folder")
  endif()
endif()

# Ranks that are processes. As many as wanted, on a machine of any size, by any user.
if(MPI_CXX_FOUND)
  add_executable(test_mpi tests/mpi/main.cpp)
  target_link_libraries(test_mpi PRIVATE hull_dev MPI::MPI_CXX)
  target_compile_definitions(test_mpi PRIVATE HULL_BLOCK_BYTES=4096)
  target_include_directories(test_mpi PRIVATE "${PROJECT_SOURCE_DIR}/tests")
  # 77: mpirun cannot start processes here
  set(mpi_properties LABELS mpi TIMEOUT 300 PROCESSORS 2 SKIP_RETURN_CODE 77)
  foreach(ranks IN ITEMS 1 2 3 4 8)
    add_test(NAME mpi.${ranks} COMMAND "${PROJECT_SOURCE_DIR}/tests/mpi/run.sh" "${MPIEXEC_EXECUTABLE}" ${ranks}
                                       $<TARGET_FILE:test_mpi>)
    set_tests_properties(mpi.${ranks} PROPERTIES ${mpi_properties})
  endforeach()
  if(TARGET hull_cli)
    foreach(fault IN ITEMS killed model count absent)
      add_test(NAME mpi.${fault}
               COMMAND "${PROJECT_SOURCE_DIR}/tests/mpi/faults.sh" ${fault} "${MPIEXEC_EXECUTABLE}"
                       $<TARGET_FILE:test_mpi> $<TARGET_FILE:hull_cli> "${PROJECT_SOURCE_DIR}/examples")
      set_tests_properties(mpi.${fault} PROPERTIES ${mpi_properties})
    endforeach()
  endif()
endif()

# Programs that must not compile, each for the reason in its first line.
file(GLOB sources CONFIGURE_DEPENDS tests/errors/*.cpp)
foreach(source IN LISTS sources)
  cmake_path(GET source STEM name)
  add_test(NAME errors.${name} COMMAND "${CMAKE_COMMAND}" -D "compiler=${CMAKE_CXX_COMPILER}" -D "source=${source}" -D
                                       "include=${PROJECT_SOURCE_DIR}/include" -P
                                       "${PROJECT_SOURCE_DIR}/tools/cmake/expect_error.cmake")
  set_tests_properties(errors.${name} PROPERTIES LABELS errors)
endforeach()

# Foreign projects that use hull in each of the three ways.
foreach(way IN ITEMS find_package add_subdirectory fetch_content)
  add_test(NAME consume.${way}
           COMMAND "${CMAKE_COMMAND}" -D "way=${way}" -D "source=${PROJECT_SOURCE_DIR}" -D "build=${PROJECT_BINARY_DIR}" -D
                   "generator=${CMAKE_GENERATOR}" -D "compiler=${CMAKE_CXX_COMPILER}" -D
                   "launcher=${CMAKE_CXX_COMPILER_LAUNCHER}" -P "${PROJECT_SOURCE_DIR}/tools/cmake/consume.cmake")
  set_tests_properties(consume.${way} PROPERTIES LABELS consume TIMEOUT 300)
endforeach()

if(HULL_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES Clang)
    message(FATAL_ERROR "HULL_FUZZ needs clang: configure with CXX=clang++")
  endif()
  file(GLOB sources CONFIGURE_DEPENDS tests/fuzz/fuzz_*.cpp)
  foreach(source IN LISTS sources)
    cmake_path(GET source STEM name)
    add_executable(${name} "${source}")
    target_link_libraries(${name} PRIVATE hull_io_dev)
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer,address,undefined -g)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer,address,undefined)
  endforeach()
endif()
