# SPDX-License-Identifier: Apache-2.0
# The targets that users link: hull::hull, hull::io, hull::cuda. All are INTERFACE targets; none compiles anything.

# A header belongs to the target whose dependencies it needs. New files need no edit here.
file(GLOB_RECURSE hull_headers CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/include/hull/*.hpp"
     "${PROJECT_SOURCE_DIR}/include/hull/*.cuh")
set(cuda_headers ${hull_headers})
list(FILTER cuda_headers INCLUDE REGEX "([.]cuh$|/cuda/)")
list(REMOVE_ITEM hull_headers ${cuda_headers})
set(io_headers ${hull_headers})
list(FILTER io_headers INCLUDE REGEX "hull/io[/.]")
list(REMOVE_ITEM hull_headers ${io_headers})
# Communicators that need a library of their own are installed, but not checked with the dependency-free headers.
set(comm_headers ${hull_headers})
list(FILTER comm_headers INCLUDE REGEX "(nccl|mpi)(_comm)?[.]hpp$")
list(REMOVE_ITEM hull_headers ${comm_headers})

find_package(Threads REQUIRED)
find_package(OpenMP QUIET COMPONENTS CXX)

# What every consumer of the headers needs, ours or a user's. OpenMP is used where the compiler has it.
function(hull_requirements target)
  target_compile_features(${target} INTERFACE cxx_std_20)
  # cxx_std_20 alone leaves .cu files at C++17, and this CMake does not know cuda_std_20 for every nvcc.
  target_compile_options(${target} INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;--expt-relaxed-constexpr>")
  # nvcc's host code gets OpenMP too, or inline functions would differ between .cpp and .cu files of one program.
  set(cuda_openmp "$<AND:$<COMPILE_LANGUAGE:CUDA>,$<TARGET_EXISTS:OpenMP::OpenMP_CXX>>")
  target_compile_options(${target} INTERFACE "$<${cuda_openmp}:-Xcompiler=-fopenmp>")
  target_link_libraries(${target} INTERFACE Threads::Threads $<TARGET_NAME_IF_EXISTS:OpenMP::OpenMP_CXX>)
endfunction()

# SYSTEM: our headers never print warnings into a user's build.
add_library(hull INTERFACE)
add_library(hull::hull ALIAS hull)
hull_requirements(hull)
target_sources(hull INTERFACE FILE_SET HEADERS BASE_DIRS include FILES ${hull_headers} ${comm_headers})
target_include_directories(hull SYSTEM INTERFACE "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>")

# The readers of ONNX and VNN-LIB.
find_package(Eigen3 QUIET NO_MODULE)
find_package(Protobuf QUIET)
find_package(ZLIB QUIET)
find_package(nlohmann_json QUIET)
find_package(OnnxProto QUIET)
set(io_dependencies Eigen3::Eigen OnnxProto::OnnxProto protobuf::libprotobuf ZLIB::ZLIB nlohmann_json::nlohmann_json)
set(HULL_HAS_IO ON)
foreach(dependency IN LISTS io_dependencies)
  if(NOT TARGET ${dependency})
    set(HULL_HAS_IO OFF)
    message(STATUS "hull::io cannot be used here: ${dependency} was not found")
  endif()
endforeach()

add_library(hull_io INTERFACE)
add_library(hull::io ALIAS hull_io)
set_target_properties(hull_io PROPERTIES EXPORT_NAME io)
target_link_libraries(hull_io INTERFACE hull ${io_dependencies})
target_sources(hull_io INTERFACE FILE_SET HEADERS BASE_DIRS include FILES ${io_headers})

# What .cu files need beside that. The numbers are remarks of nvcc on host code: C++20 that it half understands, and
# functions for the host that the device never reaches.
function(hull_cuda_requirements target)
  set(options --extended-lambda -diag-suppress=20208,186,445,1675,20011,20014,20050)
  target_compile_options(${target} INTERFACE "$<$<COMPILE_LANGUAGE:CUDA>:${options}>")
endfunction()

# The CUDA backend, for .cu files of a project that has called enable_language(CUDA). CMake links the CUDA runtime to
# these itself. The target is there without nvcc too, so that packages can be built anywhere.
add_library(hull_cuda INTERFACE)
add_library(hull::cuda ALIAS hull_cuda)
set_target_properties(hull_cuda PROPERTIES EXPORT_NAME cuda)
hull_cuda_requirements(hull_cuda)
target_link_libraries(hull_cuda INTERFACE hull)
if(cuda_headers)
  target_sources(hull_cuda INTERFACE FILE_SET HEADERS BASE_DIRS include FILES ${cuda_headers})
endif()
