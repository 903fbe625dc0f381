"""The command line of `stylegan2 train`; see stylegan2_pipeline/commands/train.py."""

try:
    from stylegan2_pipeline.commands.train import command
except ModuleNotFoundError as error:
    raise SystemExit(f"{error}. Install the project first: make install && . .venv/bin/activate") from None

if __name__ == "__main__":
    command()
