# pb_registry(LIB KIND TYPE HEADER SYMBOL_PREFIX files...): writes <KIND>_registry.c, the table of every descriptor found
# in the given files. File stem = symbol suffix: methods/lora.c must define `const pb_method pb_method_lora`.
# A missing or misnamed symbol is a link error that names the file.
function(pb_registry lib kind type header prefix)
  set(decl "")
  set(rows "")
  set(stems ${ARGN})
  list(SORT stems)
  foreach(stem ${stems})
    string(APPEND decl "extern const ${type} ${prefix}${stem};\n")
    string(APPEND rows "    &${prefix}${stem},\n")
  endforeach()
  list(LENGTH stems count)
  set(out ${CMAKE_BINARY_DIR}/generated/${kind}_registry.c)
  file(CONFIGURE OUTPUT ${out} CONTENT
"/* Generated from the folder's file names: do not edit. */
#include \"${header}\"
${decl}
const ${type} *const pb_${kind}_registry[] = {
${rows}    0,
};
const int pb_${kind}_registry_count = ${count};
" @ONLY)
  set_property(GLOBAL APPEND PROPERTY ${lib}_generated ${out})
endfunction()
