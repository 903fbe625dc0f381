"""`python -m metrics`, the same as `stylegan2 metrics`."""

from stylegan2_pipeline.commands.metrics import command

if __name__ == "__main__":
    command(prog_name="python -m metrics")
