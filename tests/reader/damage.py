"""What is wrong with an object, and what the reader cannot do."""


class Damage(Exception):
    """An object breaks a rule of the format."""

    def __init__(self, what, reason):
        super().__init__(f"{what}: {reason}")


class Refused(Exception):
    """The reader cannot, or must not, go on."""
