"""The one error for what a user did wrong."""

import click


class UserError(click.ClickException):
    """A message that names the flag or the file and the remedy; the command ends with exit code 2 and no traceback."""

    exit_code = 2
