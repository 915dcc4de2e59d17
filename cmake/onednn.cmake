# DNNL::dnnl: oneDNN 2 or 3, from its header and its library. Not through dnnl-config.cmake: Debian's asks for the OpenCL
# development files, which libdnnl-dev does not bring.
find_path(DNNL_INCLUDE_DIR dnnl.h)
find_library(DNNL_LIBRARY dnnl)
if(NOT DNNL_INCLUDE_DIR OR NOT DNNL_LIBRARY)
  message(FATAL_ERROR "oneDNN is missing: apt-get install libdnnl-dev, or name its folder in CMAKE_PREFIX_PATH")
endif()
message(STATUS "Found oneDNN: ${DNNL_LIBRARY}")
add_library(DNNL::dnnl UNKNOWN IMPORTED)
set_target_properties(DNNL::dnnl PROPERTIES
  IMPORTED_LOCATION ${DNNL_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${DNNL_INCLUDE_DIR})
