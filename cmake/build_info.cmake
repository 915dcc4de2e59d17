# Writes OUT, a header with the source's revision and how it was compiled; touches it only when something changed.
# Included by harness/CMakeLists.txt it adds the target; run with -P it does the work at build time.
if(NOT CMAKE_SCRIPT_MODE_FILE)
  string(TOUPPER "${CMAKE_BUILD_TYPE}" build_type_upper)
  set(pb_build_flags "${CMAKE_BUILD_TYPE} ${CMAKE_C_FLAGS} ${CMAKE_C_FLAGS_${build_type_upper}}")
  if(PB_SANITIZE)
    string(APPEND pb_build_flags " -fsanitize=${PB_SANITIZE}")
  endif()
  add_custom_target(pb_build_info
    COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR} -DOUT=${CMAKE_BINARY_DIR}/generated/build_info.h
      "-DCOMPILER=${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION}" "-DFLAGS=${pb_build_flags}"
      "-DVERSION=${PROJECT_VERSION}" -P ${CMAKE_SOURCE_DIR}/cmake/build_info.cmake
    BYPRODUCTS ${CMAKE_BINARY_DIR}/generated/build_info.h VERBATIM)
  return()
endif()

cmake_minimum_required(VERSION 3.20)
set(revision "")
set(dirty 0)
if(EXISTS ${SOURCE}/.git)
  execute_process(COMMAND git -C ${SOURCE} rev-parse HEAD OUTPUT_VARIABLE revision ERROR_QUIET
    OUTPUT_STRIP_TRAILING_WHITESPACE)
  execute_process(COMMAND git -C ${SOURCE} status --porcelain --untracked-files=no OUTPUT_VARIABLE changes ERROR_QUIET)
  if(NOT changes STREQUAL "")
    set(dirty 1)
  endif()
endif()
string(REGEX REPLACE "[ ]+" " " FLAGS "${FLAGS}")
file(CONFIGURE OUTPUT ${OUT} CONTENT
"/* Generated at build time: do not edit. */
#define PB_BUILD_VERSION \"${VERSION}\"
#define PB_BUILD_REVISION \"${revision}\"
#define PB_BUILD_DIRTY ${dirty}
#define PB_BUILD_COMPILER \"${COMPILER}\"
#define PB_BUILD_FLAGS \"${FLAGS}\"
")
