"""`nst-jax programs`: the compiled programs that are kept from run to run."""

import dataclasses

from nst_jax.cli.console import print_json
from nst_jax.request.errors import OutputError, reason_of, say_count


@dataclasses.dataclass(frozen=True)
class Programs:
    """Show where compiled programs are kept and how large that is, or empty it.

    What was not used for longest makes room where they would exceed 2 GB;
    JAX_COMPILATION_CACHE_MAX_SIZE is another number of bytes, -1 any. NST_JAX_CACHE_DIR is
    another folder, or off. Where JAX_COMPILATION_CACHE_DIR is set, JAX keeps them there instead,
    unless NST_JAX_CACHE_DIR names a folder.

    Example: nst-jax programs --clear
    """

    clear: bool = False
    """Remove them all; the next run compiles anew."""
    json: bool = False
    """Print folder, programs, bytes, limit_bytes and cleared as one JSON object."""

    def run(self) -> int:
        """Shows, or empties; returns the exit status."""
        from nst_jax.files import kept_programs

        folder, limit = kept_programs.programs_folder(), kept_programs.size_limit()
        count, size = kept_programs.count_programs(folder) if folder else (0, 0)
        try:
            if self.clear and folder:
                kept_programs.clear_programs(folder)
        except OSError as error:
            raise OutputError(
                f"the programs in {str(folder)!r} can't be removed: {reason_of(error)}"
            ) from error
        if self.json:
            numbers = {"programs": count, "bytes": size, "limit_bytes": limit}
            where = {"folder": str(folder) if folder else None}
            print_json(where | numbers | {"cleared": self.clear})
            return 0
        if why := kept_programs.unkept_text():
            print(f"no programs are kept from run to run: {why}")
            return 0
        programs = say_count(count, "program")
        of = "any size" if limit < 0 else f"{limit / 1e6:.1f} MB at most"
        does = "removed" if self.clear else f"of {of}"
        print(f"{folder}: {programs}, {size / 1e6:.1f} MB {does}")
        return 0
