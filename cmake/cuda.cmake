# PB_CUDA: is the cuda backend built? Finds nvcc on the PATH, in $CUDACXX, $CUDA_HOME, /usr/local/cuda and where pip puts
# it; without it everything else is built, and says so. Sanitized builds test the kernels on the host and leave it out.
#
#   -DPB_CUDA=OFF                      do not look
#   -DPB_CUDA_ARCHITECTURES=90         instead of every one of 75 80 86 89 90 100 120 that nvcc knows ($CUDAARCHS also)
option(PB_CUDA "Build the cuda backend when nvcc is found" ON)
set(PB_CUDA_ARCHITECTURES "$ENV{CUDAARCHS}" CACHE STRING "GPU architectures to build for; empty: all that matter")
if(PB_SANITIZE)
  set(PB_CUDA OFF)
endif()
# The host shim of the tests needs a C++ compiler.
include(CheckLanguage)
if(NOT CMAKE_CXX_COMPILER)
  unset(CMAKE_CXX_COMPILER CACHE) # it may have been installed since
endif()
check_language(CXX)
if(CMAKE_CXX_COMPILER)
  enable_language(CXX)
  set(CMAKE_CXX_STANDARD 17)
  set(CMAKE_CXX_STANDARD_REQUIRED ON)
  set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g")
endif()

if(PB_CUDA AND NOT CMAKE_CUDA_COMPILER)
  file(GLOB pb_nvcc_dirs /usr/local/cuda/bin /usr/local/cuda-*/bin /opt/cuda/bin
    $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin $ENV{VIRTUAL_ENV}/lib/python3*/site-packages/nvidia/cu1*/bin
    $ENV{HOME}/.local/lib/python3*/site-packages/nvidia/cu1*/bin /usr/local/lib/python3*/*-packages/nvidia/cu1*/bin)
  find_program(PB_NVCC nvcc HINTS $ENV{CUDACXX} PATHS ${pb_nvcc_dirs})
  if(NOT PB_NVCC)
    message(STATUS "No nvcc (looked on the PATH, in CUDACXX, CUDA_HOME, /usr/local/cuda): built without the cuda backend")
    set(PB_CUDA OFF)
  else()
    # Does it work here, with this host compiler? Tried in a project of its own: no reason to stop.
    unset(CMAKE_CUDA_COMPILER CACHE)
    set(ENV{CUDACXX} ${PB_NVCC})
    check_language(CUDA)
    if(NOT CMAKE_CUDA_COMPILER)
      message(STATUS "${PB_NVCC} cannot build here (see CMakeFiles/CMakeError.log): built without the cuda backend")
      set(PB_CUDA OFF)
    endif()
  endif()
endif()
if(PB_CUDA)
  # The folder that holds include/ and lib64/ (or lib/), also where nvcc is a link.
  get_filename_component(pb_nvcc_real ${CMAKE_CUDA_COMPILER} REALPATH)
  get_filename_component(pb_cuda_root ${pb_nvcc_real} DIRECTORY)
  get_filename_component(pb_cuda_root ${pb_cuda_root} DIRECTORY)
  get_filename_component(pb_cuda_near ${CMAKE_CUDA_COMPILER} DIRECTORY)
  get_filename_component(pb_cuda_near ${pb_cuda_near} DIRECTORY)
  set(pb_cuda_roots ${pb_cuda_root} ${pb_cuda_near} ${pb_cuda_root}/../cublas ${pb_cuda_root}/../cu13)
  find_path(PB_CUDA_INCLUDE_DIR cublasLt.h HINTS ${pb_cuda_roots} PATH_SUFFIXES include targets/x86_64-linux/include
    targets/sbsa-linux/include)
  # pip's wheels have no libcublasLt.so, only its version.
  find_library(PB_CUBLASLT_LIBRARY NAMES cublasLt libcublasLt.so.13 libcublasLt.so.12 HINTS ${pb_cuda_roots}
    PATH_SUFFIXES lib64 lib targets/x86_64-linux/lib targets/sbsa-linux/lib)
  if(NOT PB_CUDA_INCLUDE_DIR OR NOT PB_CUBLASLT_LIBRARY)
    message(STATUS "nvcc is ${CMAKE_CUDA_COMPILER}, but cuBLASLt is missing: built without the cuda backend")
    set(PB_CUDA OFF)
  endif()
endif()
if(PB_CUDA)
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-code OUTPUT_VARIABLE pb_codes ERROR_QUIET)
  set(pb_architectures "")
  foreach(a 75 80 86 89 90 100 120)
    if(pb_codes MATCHES "sm_${a}[^0-9]")
      list(APPEND pb_architectures ${a})
    endif()
  endforeach()
  set(PB_CUDA_KNOWN_ARCHITECTURES ${pb_architectures}) # for the table of resources
  if(PB_CUDA_ARCHITECTURES)
    set(pb_architectures ${PB_CUDA_ARCHITECTURES})
  endif()
  # The front end runs once for each of 75, 80, 90, 100 that is needed, the assembler for every architecture: no kernel asks for more
  # than sm_80 has. PTX of the last one lets later architectures start, too.
  set(pb_gencode "")
  foreach(a ${pb_architectures})
    set(virtual ${a})
    foreach(v 75 80 90 100)
      if(a MATCHES "^[0-9]+$" AND NOT v GREATER a)
        set(virtual ${v})
      endif()
    endforeach()
    list(APPEND pb_gencode -gencode=arch=compute_${virtual},code=sm_${a})
  endforeach()
  list(APPEND pb_gencode -gencode=arch=compute_${virtual},code=compute_${virtual})
  set(CMAKE_CUDA_ARCHITECTURES OFF)
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3")
  get_filename_component(PB_CUDA_LIBRARY_DIR ${PB_CUBLASLT_LIBRARY} DIRECTORY)
  # Line numbers for profilers; no fast-math; warnings of both compilers are errors.
  set(PB_CUDA_FLAGS ${pb_gencode} -lineinfo -Xptxas=-v -Werror=all-warnings -Xcompiler=-Wall,-Wextra,-Wno-unused-parameter,-Werror
    --expt-relaxed-constexpr)
  message(STATUS "cuda backend: ${CMAKE_CUDA_COMPILER} ${CMAKE_CUDA_COMPILER_VERSION}, architectures ${pb_architectures}")
endif()
