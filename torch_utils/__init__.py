"""What everything else stands on: errors, seeds, distribution and the operators in ops/."""
