"""The report, a folder of HTML pages that need no network and can be read without their script; and pictures for other uses."""
