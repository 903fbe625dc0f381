"""The operators of the networks, each with its pure-torch reference, schema and derivatives."""
