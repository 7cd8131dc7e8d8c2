"""`python -m sgmatte`."""

from sgmatte.cli.app import main

main()
