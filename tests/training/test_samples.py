from transformer.training.samples import Sample, as_markdown, as_text

SAMPLES = [Sample("I get up.", "Ich stehe auf.", "Ich stehe auf."), Sample("a | b", "c <unk> *d*", "two\nlines & more")]


def test_text_aligns_what_is_to_be_compared():
    source, reference, output, blank, *_ = as_text(SAMPLES).splitlines()
    assert blank == ""
    assert source.index("I get up.") == reference.index("Ich stehe auf.") == output.index("Ich stehe auf.")


def test_a_sentence_cannot_break_the_table():
    lines = as_markdown(SAMPLES).splitlines()
    assert len(lines) == 2 + len(SAMPLES)
    assert all(line.count("|") == 4 for line in lines)
    assert "<unk>" not in lines[-1] and "&#60;unk&#62;" in lines[-1]
