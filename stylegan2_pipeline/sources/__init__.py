"""Readers of image collections: each gives images with their names and labels.

A source is a class with what base.Source asks for and a line in registry.READERS.
"""
