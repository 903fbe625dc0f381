"""Numbers as people read them."""


def format_time(sec: float, parts: int = 3) -> str:
    """Seconds in at most `parts` units: 12s, 1m 02s, 1h 02m 03s, 1d 02h 03m."""
    rest = round(sec)
    sizes = [("d", 86400), ("h", 3600), ("m", 60), ("s", 1)]
    while len(sizes) > 1 and rest < sizes[0][1]:
        sizes.pop(0)
    texts: list[str] = []
    for unit, size in sizes[:parts]:
        count, rest = divmod(rest, size)
        texts.append(f"{count:02d}{unit}" if texts else f"{count}{unit}")
    return " ".join(texts)


def format_bytes(count: float) -> str:
    """Bytes in the unit that suits them: 512 B, 3.6 MB, 47 MB, 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 10 else f"{count:.1f} {unit}"
