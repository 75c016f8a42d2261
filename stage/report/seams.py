"""Which methods of a run change a photograph around the mask, where a pasted or quilted defect fades out."""

from stage.core.params import Params


def soft_seams(params: Params) -> dict[str, int]:
    """How far from the mask a soft seam may reach, px, by method; none for methods that change nothing outside the mask."""
    blending = {"paste": params.paste, "quilt": params.quilt}
    if params.synthesize.start == "defect":  # its samples begin with those of paste, and keep their seam
        blending["stage"] = params.paste
    return {name: blending[name].reach for name in params.methods if name in blending and {*blending[name].blends} != {"hard"}}
