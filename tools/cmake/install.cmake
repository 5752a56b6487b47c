# SPDX-License-Identifier: Apache-2.0
# Install tree and find_package(hull [COMPONENTS io cuda]). Each component is an export set of its own, so that
# find_package(hull) alone asks for none of the libraries that the readers need.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/hull")
foreach(target IN ITEMS hull hull_io hull_cuda)
  install(TARGETS ${target} EXPORT ${target} FILE_SET HEADERS COMPONENT library)
  install(EXPORT ${target} FILE ${target}.cmake NAMESPACE hull:: DESTINATION "${package_dir}" COMPONENT library)
endforeach()
configure_package_config_file(tools/cmake/hullConfig.cmake.in "${PROJECT_BINARY_DIR}/hullConfig.cmake"
                              INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/hullConfigVersion.cmake" COMPATIBILITY SameMinorVersion
                                 ARCH_INDEPENDENT)
install(FILES "${PROJECT_BINARY_DIR}/hullConfig.cmake" "${PROJECT_BINARY_DIR}/hullConfigVersion.cmake"
              tools/cmake/FindOnnxProto.cmake DESTINATION "${package_dir}" COMPONENT library)
