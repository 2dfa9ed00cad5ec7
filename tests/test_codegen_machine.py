"""The setting under which machine code is made holds for ours only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from llvmlite import binding as llvm
from numba import njit

import tracegrad as tg
from codegen import compiler, machine

LOOP = """
define void @scale(ptr %to, ptr %of, i64 %n, i64 %stride) {
start:
  br label %body
body:
  %i = phi i64 [ 0, %start ], [ %next, %body ]
  %at = mul i64 %i, %stride
  %from = getelementptr double, ptr %of, i64 %at
  %x = load double, ptr %from
  %y = fadd double %x, 1.0
  %into = getelementptr double, ptr %to, i64 %i
  store double %y, ptr %into
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %n
  br i1 %more, label %body, label %end
end:
  ret void
}
"""
quick_only = pytest.mark.skipif(not machine.X86, reason="addresses are counted elsewhere")


def assembly() -> str:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    made = llvm.Target.from_default_triple().create_target_machine(opt=3)
    return made.emit_assembly(llvm.parse_assembly(LOOP))


@quick_only
def test_the_option_is_known_to_this_llvm() -> None:
    """A version that is new here: see whether it has the option, measure, and name it in KNOWN."""
    assert llvm.llvm_version_info[0] in machine.KNOWN


@quick_only
def test_loops_are_made_otherwise_inside_only() -> None:
    before = assembly()
    with machine.quickly():
        inside = assembly()
    assert "imul" in inside
    assert "imul" not in before  # the product with the stride became a sum
    assert assembly() == before


@quick_only
def test_the_setting_is_reset_after_an_error() -> None:
    before = assembly()
    with pytest.raises(KeyError), machine.quickly():
        raise KeyError
    assert assembly() == before


def test_only_our_functions_are_made_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    entered = []
    real = machine.quickly

    def noticed():
        entered.append(True)
        return real()

    monkeypatch.setattr(compiler.machine, "quickly", noticed)
    njit(lambda x: x + 1)(1)
    assert not entered
    x = np.arange(5.0)
    np.testing.assert_array_equal(tg.grad(lambda x: np.sum(x * x * 7.25))(x), 14.5 * x)
    assert entered


def test_what_is_linked_in_is_not_found_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The user's own numba functions were bound to our NRT_decref, which looked for no null, and
    the process died in a `prange` loop."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    visible = []
    real = compiler.Library._finalize_specific

    def noticed(library: compiler.Library) -> None:
        local = (llvm.Linkage.private,)
        for function in compiler.defined(library):
            if function.linkage not in local and library.marker not in function.name:
                visible.append(function.name)
        real(library)

    monkeypatch.setattr(compiler.Library, "_finalize_specific", noticed)
    x = np.linspace(0.0, 1.0, 20)
    tg.trace(lambda x: np.sum(np.sin(x) * np.sort(x))).value_and_grad(x)
    tg.trace(lambda x: np.sum(x[1:] * x[:-1])).grad(np.ones(100_000))
    assert [name for name in visible if not name.startswith("codegen_")] == []
