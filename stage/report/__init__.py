"""The report, a folder of HTML pages that needs no network, and can be read without its script; and pictures for other uses."""
