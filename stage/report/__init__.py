"""The report: a folder of HTML pages, pictures and curves that needs no network and no script."""

from stage.report.artefacts import real_specimens, synthetic_specimens
from stage.report.pages import write_report
from stage.report.sheets import Panel, Specimen, contact_sheet, stacked

__all__ = ["Panel", "Specimen", "contact_sheet", "real_specimens", "stacked", "synthetic_specimens", "write_report"]
