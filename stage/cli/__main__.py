"""`python -m stage.cli ...`: the same as `stage ...`, by the interpreter that one names."""

from stage.cli import main

main()
