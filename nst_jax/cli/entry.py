"""Where the command `nst-jax` begins: signals first, then the imports, which take a second."""

from typing import NoReturn

from nst_jax.cli.huge_pages import begin_with_huge_pages
from nst_jax.cli.signals import end_on_signals


def main() -> NoReturn:
    """The entry point; never returns."""
    end_on_signals()
    begin_with_huge_pages()
    from nst_jax.cli.main import main as run_command

    run_command()
