"""Python's own control flow on traced values: the source of a traced function, rewritten.

    for i in tg.range(n):        ->      def tg__body(i):
        s = s + x[i]                         nonlocal s
                                             s = s + x[i]
                                         tg__.for_(tg.range(n), tg__body, ...)

The rewritten function keeps the original's file, lines, closure cells, globals and defaults, so
errors and dumps show what the user wrote.
"""
