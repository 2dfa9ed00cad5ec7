"""Loop programs as LLVM code: what numba would make of their text, without reading the text.

In: a scheduled `loops.Function` and the numba types of its arguments. Out: the same function that
`@njit` makes of the text that `codegen.source` prints: its name, calling convention, wrapper for
Python, reference counts. numba reads bytecode, infers types and lowers each operation on its own;
a loop program knows its types, and what an index is. Half of a first call goes that way.

`kinds` says what numba calls things, `typed` has it call functions; `scalars` are expressions,
`arrays` memory, `names` what names stand for, `kernels` loops that are functions, `calls` and
`statements` the rest; `lowering` holds the passes that stand in numba's compiler. numba compiles
the text itself in stand-alone modules and where bounds are checked; tests compare the two.
"""
