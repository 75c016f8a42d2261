"""The report: a folder of HTML pages, pictures and curves that needs no network and no script; and pictures for other uses."""
