"""The commands of `stylegan2`: one click command a file, options in, one library call out."""
