"""What tests of the audit share: patches to a stage that a rule could make to cheat."""


class Patches:
    """What a cheat changes, and what it knows of the stage."""

    def __init__(self, monkeypatch, kind, region):
        self.patch, self.kind, self.region = monkeypatch, kind, region

    def around(self, name, before=None, after=None):
        """Lets something happen before or after a method of the stage."""
        method = getattr(self.kind, name)

        def changed(stage, *args, **kwargs):
            if before:
                before(stage, *args)
            result = method(stage, *args, **kwargs)
            if after:
                after(stage, *args)
            return result

        self.patch.setattr(self.kind, name, changed)

    def in_steps(self, cheat, *steps):
        """Lets something happen at the end of a training step, in some or in all; called with the stage."""
        self.around("train_step", after=lambda stage, flash, part, step: steps and step not in steps or cheat(stage))

    def with_region(self, region):
        """The stage asks for one more region."""
        regions = self.kind.regions
        self.patch.setattr(self.kind, "regions", lambda stage: [*regions(stage), region])
        self.around("open", after=lambda stage, arena: setattr(stage, "mine", arena.take(region.name)))

    def bytes_of(self, stage, name):
        plan = stage.arena.plan
        return stage.arena.block[plan.offsets[name] : plan.offsets[name] + plan.region(name).nbytes]
