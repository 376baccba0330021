"""The schedule of evaluations and checkpoints of a training."""

from ml_collections import ConfigDict


class Schedule:
    """Decide for each step of a run, in order, whether it is evaluated and saved."""

    def __init__(self, config: ConfigDict, steps_per_epoch: int, num_steps: int, start: int):
        self.num_steps, self.saved, self.save_every = num_steps, start, config.checkpoint.every_steps
        self.evaluate_every = config.eval.every_epochs * steps_per_epoch

    def evaluates(self, step: int) -> bool:
        """Return whether the state after `step` is scored on val: after every few epochs, and after the last step.

        A run that is resumed with fewer steps than it has done has its last step behind it.
        """
        return step >= self.num_steps or (step > 0 and step % self.evaluate_every == 0)

    def saves(self, step: int) -> bool:
        """Return whether the state after `step` is saved: every evaluated state, and others at intervals.

        A periodic save within half an interval of another one is skipped, to keep the two latest checkpoints apart.
        """
        to_evaluation = min(self.num_steps - step, self.evaluate_every - step % self.evaluate_every)
        apart = min(step - self.saved, to_evaluation) >= self.save_every / 2
        if not self.evaluates(step) and (step % self.save_every or not apart):
            return False
        self.saved = step
        return True
