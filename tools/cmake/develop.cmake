# SPDX-License-Identifier: Apache-2.0
# What our own programs are built with: hull_dev is hull::hull with the headers under strict warnings.
# Only top-level builds come here, so settings of the whole build may be changed.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CCACHE}")
  set(CMAKE_CUDA_COMPILER_LAUNCHER "${CCACHE}")
endif()

if(HULL_CUDA)
  if(NOT DEFINED ENV{CUDACXX})
    # The toolkit's usual place is seldom in PATH.
    find_program(CMAKE_CUDA_COMPILER nvcc HINTS ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
    if(NOT CMAKE_CUDA_COMPILER)
      message(FATAL_ERROR "HULL_CUDA needs nvcc: put it into PATH or set CMAKE_CUDA_COMPILER")
    endif()
  endif()
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES "80;90a" CACHE STRING "Devices that our own programs run on")
  endif()
  enable_language(CUDA)

  # For ranks with a GPU each: hull_nccl_dev, where it is found.
  cmake_path(GET CMAKE_CUDA_COMPILER PARENT_PATH nvcc_folder)
  set(nccl_places HINTS "$ENV{NCCL_HOME}" "${nvcc_folder}/..")
  find_path(NCCL_INCLUDE_DIR nccl.h ${nccl_places} PATH_SUFFIXES include)
  find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 ${nccl_places} PATH_SUFFIXES lib64 lib)
endif()

add_library(hull_dev INTERFACE)
hull_requirements(hull_dev)
target_include_directories(hull_dev INTERFACE "${PROJECT_SOURCE_DIR}/include")
target_compile_options(
  hull_dev
  INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wconversion;-Wshadow>"
            # gcc 12 blames its own AVX-512 intrinsics inside Eigen (GCC bug 105593); clang still checks ours.
            "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-uninitialized;-Wno-maybe-uninitialized>"
            # nvcc's generated code is not pedantic, and its own headers shadow.
            "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wconversion>")
if(HULL_NATIVE)
  target_compile_options(hull_dev INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-march=native>"
                                            "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-march=native>")
endif()

add_library(hull_io_dev INTERFACE)
target_link_libraries(hull_io_dev INTERFACE hull_dev ${io_dependencies})
add_library(hull_cuda_dev INTERFACE)
hull_cuda_requirements(hull_cuda_dev)
target_link_libraries(hull_cuda_dev INTERFACE hull_dev)
if(NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
  add_library(hull_nccl_dev INTERFACE)
  target_include_directories(hull_nccl_dev SYSTEM INTERFACE "${NCCL_INCLUDE_DIR}")
  target_link_libraries(hull_nccl_dev INTERFACE hull_cuda_dev "${NCCL_LIBRARY}")
endif()

# Each header compiles alone, under the strict warnings: target all_verify_interface_header_sets.
target_sources(hull_dev INTERFACE FILE_SET HEADERS BASE_DIRS include FILES ${hull_headers})
set_target_properties(hull_dev PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)

# All headers in one translation unit: names must not clash. It is also what tools/check shows to clang-tidy.
set(all_headers ${hull_headers})
if(HULL_HAS_IO)
  target_sources(hull_io_dev INTERFACE FILE_SET HEADERS BASE_DIRS include FILES ${io_headers})
  set_target_properties(hull_io_dev PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
  list(APPEND all_headers ${io_headers})
endif()
list(TRANSFORM all_headers REPLACE "^include/(.*)$" "#include <\\1>")
list(JOIN all_headers "\n" all_headers)
file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/all_headers.cpp" CONTENT "@all_headers@\n" @ONLY)
add_library(all_headers OBJECT EXCLUDE_FROM_ALL "${PROJECT_BINARY_DIR}/all_headers.cpp")
target_link_libraries(all_headers PRIVATE hull_dev)
if(HULL_HAS_IO)
  target_link_libraries(all_headers PRIVATE hull_io_dev)
endif()
