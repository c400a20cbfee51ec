"""`python -m nst_jax`: the command `nst-jax` where its script is not in the PATH."""

from nst_jax.cli.entry import main

if __name__ == "__main__":
    main()
