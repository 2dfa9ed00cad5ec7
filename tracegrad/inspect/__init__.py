"""What a user can look at: dumps, explanations, drawings, sources and stand-alone modules.

    print(f.dump(x)); print(f.explain(x)); f.export("f.py", x)

Everything here reads graphs, loop programs and compiled modules; nothing here changes them.
"""
