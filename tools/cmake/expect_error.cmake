# SPDX-License-Identifier: Apache-2.0
# cmake -D compiler=g++ -D include=DIR -D source=FILE -P expect_error.cmake
# Passes if FILE does not compile and the compiler's output has the text of its first line, `// expect: TEXT`.
# A mere typo in FILE therefore fails. `// expect: no error` asks for the opposite: the baseline has to compile.
file(STRINGS "${source}" first_line LIMIT_COUNT 1)
if(NOT first_line MATCHES "^// expect: (.+)$")
  message(FATAL_ERROR "${source}:1: expected `// expect: TEXT`")
endif()
set(expected "${CMAKE_MATCH_1}")

set(ENV{LC_ALL} C) # gcc translates its messages and quotes
execute_process(COMMAND "${compiler}" -std=c++20 -fsyntax-only -I "${include}" "${source}" RESULT_VARIABLE status
                OUTPUT_VARIABLE output ERROR_VARIABLE output)

if(expected STREQUAL "no error")
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "this file has to compile, but:\n${output}")
  endif()
  return()
endif()
if(status EQUAL 0)
  message(FATAL_ERROR "this file compiles, but should fail with: ${expected}")
endif()
string(FIND "${output}" "${expected}" position)
if(position EQUAL -1)
  message(FATAL_ERROR "the compiler's output does not contain: ${expected}\n${output}")
endif()
