"""benchmarks/on_gpu.sh and what it runs, in miniature on the CPU.

Left out for time: the sharded run and `make-base`, which load torch in six processes; `benchmarks/on_gpu.sh --miniature build/gpu` runs all.
"""

import subprocess
from pathlib import Path

from source_tree import ROOT

from benchmarks import accelerator


def on_gpu(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = ["bash", str(ROOT / "benchmarks/on_gpu.sh"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_part_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    """A lease of ten minutes would end at its first mistake, or seem to have gone well."""
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/broken-1.0-py3-none-any.whl").write_bytes(b"no wheel")

    done = on_gpu("--miniature", "--wheels", tmp_path / "wheels", tmp_path / "out", "wheels", "machine")

    assert done.returncode == 1
    assert done.stderr == "failed: wheels\n"
    first, second, last = (tmp_path / "out/summary.txt").read_text().splitlines()
    assert first.startswith("wheels: failed with status 1 after ")
    assert second.startswith("machine: done in ")
    assert last == "failed: wheels"
    assert "broken-1.0-py3-none-any.whl" in (tmp_path / "out/wheels.log").read_text()
    assert "missing: nothing" in (tmp_path / "out/machine.log").read_text()


def test_a_part_is_ended_at_its_limit(tmp_path: Path) -> None:
    """One part that hangs would take the whole lease: no Python process imports torch within a hundredth of a second."""
    done = on_gpu("--miniature", "--limit", "0.01", tmp_path, "machine")

    assert done.returncode == 1
    assert (tmp_path / "summary.txt").read_text().startswith("machine: stopped at its limit of 0.01 s")


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    """A typing error would cost the start of a machine."""
    for arguments, found in (
        ((), "no OUT"),
        ((tmp_path, "sharding"), "the part sharding"),
        (("--wheels", "gone", tmp_path), "--wheels with gone"),
    ):
        done = on_gpu(*arguments)

        assert done.returncode == 2
        assert f"found {found}" in done.stderr


def test_the_accelerators_benchmark_prints_each_row_at_once_and_then_its_table(capsys) -> None:
    """A lease that ends early would bring nothing back; the compiler is tried on a GPU alone, for it takes a minute and a half."""
    accelerator.main("--miniature")

    lines = capsys.readouterr().out.splitlines()
    assert "TFLOP/s in a bfloat16 product of 256 x 256 matrices" in lines[0]
    assert lines[1].startswith("float32, eager, torch's defaults: image steps/s ")
    assert lines[2].startswith("bfloat16, eager: image steps/s ")
    assert any("batch 1" in line and "times as many images" in line for line in lines[3:])
