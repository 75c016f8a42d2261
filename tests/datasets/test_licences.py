"""The licence that `stage use-data` finds beside photographs."""

from pathlib import Path

from stage.datasets.licences import licences_in


def test_the_first_line_of_every_licence_is_its_title(tmp_path: Path) -> None:
    """Samples would be passed on under the licence of one category alone."""
    (tmp_path / "part").mkdir()
    (tmp_path / "LICENSE").write_bytes("\ufeff\n\n  CC BY 4.0 \r\nThe terms".encode())
    (tmp_path / "part/copying.md").write_text("CC0-1.0")

    found = licences_in([tmp_path, tmp_path / "part"])

    assert found == {"CC BY 4.0": tmp_path / "LICENSE", "CC0-1.0": tmp_path / "part/copying.md"}


def test_no_hostile_file_is_taken_for_a_licence(tmp_path: Path) -> None:
    """A secret that a link leads to would be published with every sample; a name would drive the terminal; a picture would be the licence."""
    (tmp_path / "secret").write_text("password")
    (tmp_path / "licence-link").symlink_to(tmp_path / "secret")
    (tmp_path / "license\x1b[31m").write_text("MIT")
    (tmp_path / "license\udcff").write_text("MIT")
    (tmp_path / "license_plate.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "license-escape").write_text("\x1b[31mMIT")
    (tmp_path / "license-long").write_text("a" * 201)
    (tmp_path / "license-empty").write_text("\n")
    (tmp_path / "licenses").mkdir()

    assert licences_in([tmp_path]) == {}
