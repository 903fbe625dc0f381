"""The command line of `stylegan2 generate`; see stylegan2_pipeline/commands/generate.py."""

try:
    from stylegan2_pipeline.commands.generate import command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error}. Install the project first: make install && . .venv/bin/activate") from None

if __name__ == "__main__":
    command()
