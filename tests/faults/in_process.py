"""Many trainings in one process, which compiles their step once; for functions that jobs.call runs in a process."""

import pathlib

import programs

from tests.faults import jobs, tiny_config


class Fits:
    """Trainings of one config in workdirs below `folder`; the test at their end is left out unless `test`."""

    def __init__(self, folder, net="resnet", test=False, **fields):
        from agegender_jax.run import train
        from agegender_jax.run.training import final_test

        self.folder, self.module, self.test = pathlib.Path(folder), train, final_test.test
        self.config = tiny_config.get_config(net)
        self.config.data.update(source=str(jobs.faces(folder)), cache_dir=str(self.folder / "cache"))
        self.config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
        driver, drivers = train.make_driver, []

        def make_driver(*args, **options):
            drivers.extend([] if drivers else [driver(*args, **options)])
            return drivers[0]

        train.make_driver = make_driver
        if not test:
            final_test.test = lambda *args: None

    def run(self, workdir, **fields):
        """Train, or resume, in a workdir; return its path."""
        config = self.config.copy_and_resolve_references()
        config.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
        self.module.fit(config, str(self.folder / workdir), ["in_process"])
        return self.folder / workdir

    def code_of(self, workdir, **fields):
        """Return the exit code with which the program would end, and the error's text."""
        from agegender_jax.cli import exits
        from agegender_jax.errors import Stopped

        try:
            self.run(workdir, **fields)
        except Stopped as error:
            return error.code, str(error)
        except Exception as error:
            user_error = exits.as_user_error(error)
            if user_error is None:
                raise
            return user_error.code, str(user_error)
        return 0, ""


def state(workdir):
    """Return what a run without its test leaves: the log and a digest of each array of the last checkpoint."""
    rows = {f"log line {i}": row for i, row in enumerate(programs.reproducible_rows(workdir))}
    return rows | jobs.digests(workdir)
