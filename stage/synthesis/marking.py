"""Marks a sample's PNGs: that they are synthetic, which sample they are, and of what kind, by IPTC's vocabulary.

The kind stands in XMP (ISO 16684-1; in a PNG an iTXt chunk) as `Iptc4xmpExt:DigitalSourceType`, which photo software shows. Its values
are those of https://cv.iptc.org/newscodes/digitalsourcetype/; no chunk holds a time, so the same sample has the same bytes.
"""

from xml.sax.saxutils import quoteattr

from stage.datasets.pairs import XMP
from stage.model.base_pointer import TRAINED

SAMPLE = "Sample"  # keyword of the chunk with the id
VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
# In order: a trained model made a part of a photograph; all parts are captures of real life; a part may also be computed, as textures
# may. `compositeSynthetic` would say that generative AI made a part.
WITH_NETWORK, OF_CAPTURES, OF_ELEMENTS = "compositeWithTrainedAlgorithmicMedia", "compositeCapture", "composite"
PHOTOGRAPHS_ALONE = frozenset({"paste", "cutpaste", "quilt"})
PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'Iptc4xmpExt:DigitalSourceType="{kind}" dc:identifier={sample}/></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def source_type(method: str) -> str:
    """The digital source type of a method's samples, a URI."""
    name = WITH_NETWORK if method in TRAINED else OF_CAPTURES if method in PHOTOGRAPHS_ALONE else OF_ELEMENTS
    return VOCABULARY + name


def mark(sample_id: str) -> dict[str, str]:
    """The text chunks of a sample's PNGs, by keyword; the method is the first part of the id."""
    packet = PACKET.format(kind=source_type(sample_id.partition("/")[0]), sample=quoteattr(sample_id))
    return {"Synthetic": "true", SAMPLE: sample_id, XMP: packet}
