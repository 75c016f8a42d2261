"""What a sample's PNG says of itself, read by a parser of XML and by the words of IPTC's vocabulary, and whether it survives an export."""

import io
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from small_factory import CATEGORY, build, origin, plan_row, publish_rows

from stage.datasets.pairs import Pair, encode_png
from stage.release.export import export_mvtec
from stage.synthesis.marking import mark
from stage.synthesis.method import METHODS
from stage.synthesis.rows import Verdict
from stage.synthesis.schema import sample_row

# https://cv.iptc.org/newscodes/digitalsourcetype/, as of 17 September 2024, and what each says it is for
VOCABULARY = {
    "compositeWithTrainedAlgorithmicMedia": "trained algorithmic media composited with other media, as with inpainting",
    "compositeCapture": "several elements that are all captures of real life",
    "composite": "several elements, any of which may or may not be generative AI",
}
PREFIX = "http://cv.iptc.org/newscodes/digitalsourcetype/"
EXTENSION, CORE = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}", "{http://purl.org/dc/elements/1.1/}"
DESCRIPTION = ".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"


def said(png: bytes) -> tuple[str, str, str]:
    """The sample by the text chunk, and sample and kind by the XMP."""
    with Image.open(io.BytesIO(png)) as picture:
        info = picture.info
    assert info["Synthetic"] == "true"
    told = ElementTree.fromstring(info["XML:com.adobe.xmp"].strip("\ufeff")).find(DESCRIPTION)
    assert told is not None
    return info["Sample"], told.attrib[f"{CORE}identifier"], told.attrib[f"{EXTENSION}DigitalSourceType"]


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("stage", "compositeWithTrainedAlgorithmicMedia"),
        ("paste", "compositeCapture"),
        ("cutpaste", "compositeCapture"),
        ("quilt", "compositeCapture"),
        ("draem", "composite"),
        ("glass", "composite"),
    ],
)
def test_a_picture_says_its_sample_and_its_kind(method: str, kind: str) -> None:
    """A synthetic picture would pass for a photograph once it has left its folder."""
    assert kind in VOCABULARY
    sample_id = f'{method}/part/a & "b" <c>/000012/0'

    png = encode_png(np.zeros((4, 4, 3), np.uint8), mark(sample_id))

    assert said(png) == (sample_id, sample_id, PREFIX + kind)
    assert png == encode_png(np.zeros((4, 4, 3), np.uint8), mark(sample_id))


def test_every_method_has_a_kind() -> None:
    """A new method's samples would be called what they are not, or end in an error."""
    assert {said(encode_png(np.zeros((2, 2), np.uint8), mark(f"{name}/part/x/000000/0")))[2] for name in METHODS} == {
        PREFIX + kind for kind in VOCABULARY
    }


def test_the_mark_survives_an_export_and_photographs_have_none(tmp_path: Path) -> None:
    """Loose files would be synthetic without saying so, or photographs be called synthetic."""
    factory = build(tmp_path / "made")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "prepare").symlink_to(factory.data / "prepare")
    image, mask = np.full((16, 16, 3), 9, np.uint8), np.zeros((16, 16), np.uint8)
    mask[3:6, 3:6] = 1
    verdict = Verdict(50, 0, 1, 1, 0.25, 0.125, "f" * 64, 7.5, "accepted", "")
    rows = [sample_row(plan_row(k), Pair(image + np.uint8(k), mask), verdict, origin()) for k in range(3)]
    publish_rows(rows, 100, tmp_path / "data" / "synthesize" / CATEGORY / "stage")

    export_mvtec(tmp_path / "data", CATEGORY, "stage", tmp_path / "export")

    home = tmp_path / "export" / CATEGORY
    for number in range(3):
        for path in (home / "test" / "crack" / f"{number:06d}.png", home / "ground_truth" / "crack" / f"{number:06d}_mask.png"):
            assert said(path.read_bytes())[0] == plan_row(number).sample_id
    normal = [*(home / "train" / "good").iterdir()]
    assert normal
    assert not [path for path in normal if b"Synthetic" in path.read_bytes() or b"xmp" in path.read_bytes()]
