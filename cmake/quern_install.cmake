# SPDX-License-Identifier: Apache-2.0
# Headers to include/, the package to share/cmake/quern. Each target is an export of its own, so that a
# machine without Eigen or CUDA can still use quern::quern.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(quern_package_dir ${CMAKE_INSTALL_DATADIR}/cmake/quern)
if(CMAKE_VERSION VERSION_GREATER_EQUAL 3.23)
  install(TARGETS quern EXPORT quern-quern FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
else()
  install(DIRECTORY include/quern DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(TARGETS quern EXPORT quern-quern INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
endif()
install(EXPORT quern-quern NAMESPACE quern:: DESTINATION ${quern_package_dir})
foreach(name eigen cuda)
  if(TARGET quern_${name})
    install(TARGETS quern_${name} EXPORT quern-${name})
    install(EXPORT quern-${name} NAMESPACE quern:: DESTINATION ${quern_package_dir})
  endif()
endforeach()

configure_package_config_file(cmake/quern-config.cmake.in quern-config.cmake
                              INSTALL_DESTINATION ${quern_package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(quern-config-version.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/quern-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/quern-config-version.cmake
        DESTINATION ${quern_package_dir})
install(FILES LICENSE NOTICE DESTINATION ${CMAKE_INSTALL_DATADIR}/licenses/quern)
