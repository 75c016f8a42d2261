"""The report, a folder of HTML pages that needs no network and no script; and pictures for other uses."""
