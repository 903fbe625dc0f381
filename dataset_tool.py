"""The command line of `stylegan2 dataset`; see stylegan2_pipeline/commands/dataset.py."""

from stylegan2_pipeline.commands.dataset import command

if __name__ == "__main__":
    command()
