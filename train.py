"""The command line of `stylegan2 train`; see stylegan2_pipeline/commands/train.py."""

from stylegan2_pipeline.commands.train import command

if __name__ == "__main__":
    command()
