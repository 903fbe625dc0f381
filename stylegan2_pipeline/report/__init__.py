"""A run, or two compared, as one page that loads nothing.

    write                what the command does: gather, make the page, JSON and CSV
    run                  gathers what there is to say of a run (numbers, pictures, samples, nearest, difficulty
                         find it)
    charts, curves       drawings of curves
    html, page, compare  the page (assets: its style and script)
"""
