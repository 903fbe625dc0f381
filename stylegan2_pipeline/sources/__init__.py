"""Readers of image collections: each yields images with their names and labels."""
