"""How a run is doing: measured on images of the same latents, without weights, and judged by rules with a name.

    probe, leaks         measurements against the data (leaks: does augmentation show in the images)
    facts                the settings that rules ask for, and what a verdict is
    series, progress     trends and limits over ticks; whether a metric still improves
    rules                the rules, and judge(), which asks them all
"""
