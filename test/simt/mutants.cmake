# Kernels with one mistake each, for the tests of planted bugs: copies of their sources in which one text is another. A mutant whose
# text is not there does not compile: it follows its kernel or says that it cannot.
set(MUTANT_FOLDER ${CMAKE_CURRENT_BINARY_DIR}/mutants)

# begin_mutants(LIST): those that follow, until end_mutants(), are named in LIST.
macro(begin_mutants list)
  set(MUTANTS ${list})
  set(${list} "")
endmacro()

macro(add_mutant name)
  list(APPEND ${MUTANTS} ${name})
endmacro()

# edit(FILE TEXT OTHER): of the last mutant.
function(edit file from to)
  list(GET ${MUTANTS} -1 name)
  if(NOT DEFINED TEXT_${name}_${file})
    set(source ${CMAKE_SOURCE_DIR}/csrc/kernels/cuda/${file})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
    file(READ ${source} TEXT_${name}_${file})
    set(FILES_${name} ${FILES_${name}} ${file} PARENT_SCOPE)
  endif()
  string(FIND "${TEXT_${name}_${file}}" "${from}" at)
  if(at LESS 0)
    set(text "#error test/simt/mutants.cmake: ${name} edits a text that ${file} no longer has\n")
  else()
    string(REPLACE "${from}" "${to}" text "${TEXT_${name}_${file}}")
  endif()
  set(TEXT_${name}_${file} "${text}" PARENT_SCOPE)
endfunction()

# Writes them, in a folder each that comes before csrc in the search for headers.
macro(end_mutants)
  foreach(name ${${MUTANTS}})
    foreach(file ${FILES_${name}})
      file(CONFIGURE OUTPUT ${MUTANT_FOLDER}/${name}/kernels/cuda/${file} CONTENT "${TEXT_${name}_${file}}" @ONLY)
    endforeach()
  endforeach()
endmacro()

# target_mutants(TEST SOURCE TIER NAMES...): SOURCE, compiled once for each with `cuda` defined as its name, so that all live in one program.
function(target_mutants test source tier)
  foreach(mutant ${ARGN})
    add_library(mutant_${mutant}_${tier} OBJECT ${source})
    target_include_directories(mutant_${mutant}_${tier} BEFORE PRIVATE ${MUTANT_FOLDER}/${mutant})
    target_compile_options(mutant_${mutant}_${tier} PRIVATE ${SIMT_FLAGS_${tier}} -O2 -Wno-unknown-pragmas -Wno-unused-parameter)
    target_compile_definitions(mutant_${mutant}_${tier} PRIVATE cuda=${mutant} MUTANT_TYPE=${MUTANT_TYPE_${mutant}})
    target_link_libraries(mutant_${mutant}_${tier} PRIVATE simt_machine)
    target_sources(${test}_${tier} PRIVATE $<TARGET_OBJECTS:mutant_${mutant}_${tier}>)
  endforeach()
endfunction()
