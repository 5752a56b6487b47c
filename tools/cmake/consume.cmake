# SPDX-License-Identifier: Apache-2.0
# Configures, builds and runs the foreign project tests/consume/<way>.
# Variables: way, source and build (of hull), generator, compiler, launcher.
set(root "${build}/consume/${way}")
file(REMOVE_RECURSE "${root}")

if(way STREQUAL find_package)
  execute_process(COMMAND "${CMAKE_COMMAND}" --install "${build}" --prefix "${root}/install" --component library
                  OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
  set(place "-DCMAKE_PREFIX_PATH=${root}/install")
else()
  set(place "-DHULL_TREE=${source}")
endif()

execute_process(
  COMMAND "${CMAKE_COMMAND}" -G "${generator}" -S "${source}/tests/consume/${way}" -B "${root}/build" ${place}
          "-DCMAKE_CXX_COMPILER=${compiler}" "-DCMAKE_CXX_COMPILER_LAUNCHER=${launcher}" --no-warn-unused-cli
  COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${CMAKE_COMMAND}" --build "${root}/build" COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${root}/build/consumer" COMMAND_ERROR_IS_FATAL ANY)
