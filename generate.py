"""The command line of `stylegan2 generate`; see stylegan2_pipeline/commands/generate.py."""

from stylegan2_pipeline.commands.generate import command

if __name__ == "__main__":
    command()
