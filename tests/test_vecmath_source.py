"""Finding functions, and the stand-alone text: JIT and plain Python give the same bits."""

import inspect
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import tracegrad as tg
from codegen import vecmath
from codegen.vecmath import catalog, derive
from codegen.vecmath.reference import ulps

ROOT = Path(__file__).parent.parent
NAMES = ["exp_f64", "expm1_f32", "tanh_f64", "sigmoid_f32", "log_f64", "log1p_f32", "softplus_f64",
         "sin_f64", "tan_f32", "arctan2_f64", "arcsin_f32", "arctanh_f64", "sinh_f32", "erf_f64",
         "power_f64", "power_f32", "cbrt_f64", "gammaln_f64", "remainder_f64", "floor_divide_f32",
         "nextafter_float", "sign_float", "maximum_float"]  # fmt: skip

PROGRAM = """
import sys
import numpy as np
import module

random = np.random.default_rng(0)
usual = random.uniform(0.05, 0.95, 12)
wide = random.integers(0, 2**63 - 1, 12).view(float)
special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 5e-324]
points = np.concatenate([usual, 1 + 9 * usual, -5 * usual, wide, special])
results = {}
with np.errstate(all="ignore"):
    for name, arity in NAMES:
        dtype = np.float32 if name.endswith("f32") else np.float64
        columns = [np.roll(points, 7 * k).astype(dtype) for k in range(arity)]
        results[name] = np.array([getattr(module, name)(*p) for p in zip(*columns)]).astype(dtype)
np.savez(sys.argv[1], **results)
"""


def arity(name: str) -> int:
    function = getattr(vecmath, name)
    parameters = inspect.signature(getattr(function, "py_func", function)).parameters
    return sum(parameter != "typing" for parameter in parameters)


def test_standalone_text_is_the_same_with_and_without_jit(tmp_path: Path) -> None:
    names = [(name, arity(name)) for name in NAMES]
    text = vecmath.standalone_source([name for name, _ in names])
    assert "codegen" not in text.replace("codegen.vecmath", "")
    (tmp_path / "module.py").write_text(text)
    (tmp_path / "program.py").write_text(f"NAMES = {names!r}\n" + PROGRAM)
    results = {}
    for disabled in ("0", "1"):
        environment = {**os.environ, "NUMBA_DISABLE_JIT": disabled, "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-W", "error", "program.py", f"{disabled}.npz"]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
        results[disabled] = np.load(tmp_path / f"{disabled}.npz")
    for name, _ in names:
        compiled, plain = results["0"][name], results["1"][name]
        np.testing.assert_array_equal(compiled, plain, err_msg=name)
        signs = np.isnan(plain) | (np.signbit(compiled) == np.signbit(plain))
        assert signs.all(), name


def test_every_function_can_be_imported_by_its_own_name() -> None:
    """What the texts say is what the modules have."""
    there = set()
    for module in map(import_module, (f"codegen.vecmath.{name}" for name in catalog.MODULES)):
        there |= {name for name in vars(module) if name.endswith(catalog.SUFFIXES)}
    assert {name for name in there if not name.startswith("_")} == set(catalog.homes())
    for name in catalog.homes():
        assert getattr(vecmath, name).__name__ == name
    with pytest.raises(AttributeError, match="exp_f16"):
        _ = vecmath.exp_f16


def test_definitions_have_different_names_in_all_files() -> None:
    defined = [name for text in catalog.texts().values() for name in catalog.definitions(text)]
    assert len(defined) == len(set(defined))


def test_only_what_a_program_calls_is_loaded(tmp_path: Path) -> None:
    program = """
import sys, numpy as np, tracegrad as tg
tg.value_and_grad(lambda x: np.mean(np.exp(x)))(np.ones(3))
ours = ("codegen.vecmath.", "codegen.library.")
print(*(name.split(".")[-1] for name in sys.modules if name.startswith(ours)))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", program]
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    loaded = set(run.stdout.split())
    assert "exponential" in loaded
    assert not loaded & {"trigonometric", "special", "probability", "lapack", "sorting", "places"}


@pytest.mark.parametrize("name, dtype", [("exp", "i8"), ("no_such_function", "f8"), ("gcd", "f4")])
def test_what_is_missing_is_named(name: str, dtype: str) -> None:
    with pytest.raises(LookupError, match=f"{name}.*{np.dtype(dtype).name}"):
        vecmath.lookup(name, np.dtype(dtype))
    with pytest.raises(LookupError, match="no_such"):
        vecmath.standalone_source(["no_such"])


def test_lookup_by_kind_and_by_other_names() -> None:
    assert vecmath.lookup("exp", np.dtype("f4")).__name__ == "exp_f32"
    assert vecmath.lookup("floor", np.dtype("f4")).__name__ == "floor_float"
    assert vecmath.lookup("gcd", np.dtype("u2")).__name__ == "gcd_int"
    assert vecmath.lookup("absolute", np.dtype("f8")).__name__ == "fabs_float"
    assert vecmath.lookup("float_power", np.dtype("f8")).__name__ == "power_f64"


def test_every_file_is_listed() -> None:
    scripts = {"__init__", "catalog", "derive", "reference"}
    files = {path.stem for path in (ROOT / "codegen/vecmath").glob("*.py")}
    assert set(catalog.MODULES) == files - scripts


@pytest.mark.parametrize("name", ["EXP", "LOG", "SIN_F32"])
def test_coefficients_are_what_the_derivation_gives(name: str) -> None:
    (home,) = [home for home, text in catalog.texts().items() if name in catalog.definitions(text)]
    coefficients, _ = derive.remez(derive.POLYNOMIALS[name])
    assert list(getattr(import_module(f"codegen.vecmath.{home}"), name)) == [
        float(c) for c in reversed(coefficients)
    ]


def test_float32_functions_stay_in_float32() -> None:
    """No float64 instruction in the machine code of what is written for float32."""
    for name in ("exp_f32", "tanh_f32", "log_f32", "sigmoid_f32", "erf_f32", "arctan2_f32"):
        function = getattr(vecmath, name)
        signature = (np.float32(0.5),) * arity(name)
        assert type(function(*signature)) in (float, np.float32)
        (text,) = [text for key, text in function.inspect_llvm().items() if "float32" in str(key)]
        body = text[text.index(f"{name}") :]
        body = body[: body.index("\n}")]
        assert "double" not in body, name


def test_ulp_measure_sees_an_error() -> None:
    one_up = np.array([np.nextafter(1.0, 2.0), 1.0])
    assert list(ulps(one_up, [1, 1], np.dtype(float))) == [1.0, 0.0]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_an_exponent_that_is_the_same_in_every_call(dtype: str) -> None:
    """The slow path keeps its argument, by which LLVM knows its vector variants."""
    x = np.linspace(0.5, 3, 100).astype(dtype)
    found = tg.trace(lambda x: x**1.7 / x.size**0.3)(x)
    np.testing.assert_allclose(found, x**1.7 / x.size**0.3, rtol=8 * np.finfo(dtype).eps)
