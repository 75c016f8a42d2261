"""`python -m stage.cli ...`: the same as `stage ...`, with a chosen interpreter."""

from stage.cli import main

main()
