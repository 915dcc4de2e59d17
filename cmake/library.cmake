# pb_plugin(TARGET): a shared object that the program opens at run time. It shows the one function that is asked for (plugin.map)
# and nothing else, templates and its static libraries included: what two such objects define alike stays each one's own.
# Test: tests/cuda/exports.sh, and "twin" in tests/test_cuda_device.c.
function(pb_plugin target)
  set_target_properties(${target} PROPERTIES
    C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  get_target_property(type ${target} TYPE)
  if(NOT type STREQUAL OBJECT_LIBRARY)
    target_link_options(${target} PRIVATE LINKER:--version-script=${CMAKE_SOURCE_DIR}/cmake/plugin.map)
    set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/plugin.map)
  endif()
endfunction()

# pb_library(NAME [DIRS d...] [DEPS t...]): a static library of every .c file in the folder (and DIRS under it).
# A new file is picked up by the next build; nobody edits a list.
function(pb_library name)
  cmake_parse_arguments(ARG "" "" "DIRS;DEPS" ${ARGN})
  set(patterns ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
  foreach(dir ${ARG_DIRS})
    list(APPEND patterns ${CMAKE_CURRENT_SOURCE_DIR}/${dir}/*.c)
  endforeach()
  file(GLOB sources CONFIGURE_DEPENDS ${patterns})
  get_property(generated GLOBAL PROPERTY ${name}_generated)
  if(NOT sources AND NOT generated)
    add_library(${name} INTERFACE)
    target_link_libraries(${name} INTERFACE ${ARG_DEPS})
  else()
    add_library(${name} STATIC ${sources} ${generated})
    target_link_libraries(${name} PUBLIC ${ARG_DEPS})
  endif()
endfunction()
