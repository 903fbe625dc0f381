"""Quality numbers: detectors and features, one file a metric, a table of names."""
