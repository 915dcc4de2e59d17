# PB_CUPTI: is the CUPTI tracer built? It needs the headers of CUDA 13 (records and host API of that version) and libcupti.
# Looked for beside nvcc, in /usr/local/cuda and where pip puts them; sanitized builds leave it out as they do the backend.
set(PB_CUPTI OFF)
if(CMAKE_CXX_COMPILER AND NOT PB_SANITIZE)
  set(pb_cupti_roots ${pb_cuda_roots} /usr/local/cuda $ENV{CUDA_HOME} $ENV{CUDA_PATH})
  find_path(PB_CUPTI_INCLUDE_DIR cupti_range_profiler.h HINTS ${pb_cupti_roots}
    PATH_SUFFIXES include extras/CUPTI/include targets/x86_64-linux/include NO_DEFAULT_PATH)
  find_path(PB_NVTX_INCLUDE_DIR nvtx3/nvToolsExt.h HINTS ${PB_CUPTI_INCLUDE_DIR} ${pb_cupti_roots} PATH_SUFFIXES include)
  find_library(PB_CUPTI_LIBRARY NAMES cupti libcupti.so.13 HINTS ${pb_cupti_roots}
    PATH_SUFFIXES lib64 lib extras/CUPTI/lib64 targets/x86_64-linux/lib NO_DEFAULT_PATH)
  if(PB_CUPTI_INCLUDE_DIR AND PB_NVTX_INCLUDE_DIR AND PB_CUPTI_LIBRARY)
    file(STRINGS ${PB_CUPTI_INCLUDE_DIR}/cupti_version.h pb_cupti_version REGEX "define CUPTI_API_VERSION +[0-9]+")
    if(pb_cupti_version MATCHES "CUPTI_API_VERSION +13[0-9][0-9][0-9][0-9]")
      set(PB_CUPTI ON)
    endif()
  endif()
  if(PB_CUPTI)
    message(STATUS "CUPTI tracer: ${PB_CUPTI_LIBRARY}")
  else()
    message(STATUS "No CUPTI of CUDA 13: a GPU is traced with events only")
  endif()
endif()
