from cli.output import printable


def test_nothing_steers_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\x9bc\rd\u202ee") == "a[2Jbcde"
    assert printable("naïve\tcafé\n日本 👩\u200d👧") == "naïve\tcafé\n日本 👩\u200d👧"
