"""python -m popos_cli"""

from .cli.app import run

run()
