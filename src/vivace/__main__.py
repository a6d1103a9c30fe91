"""`python -m vivace` is `vivace`."""

from vivace.cli import main

main()
