import struct

from tensorboardX.proto.event_pb2 import Event, SessionLog

from transformer.training.tensorboard_log import TensorBoardLog


def events(directory):
    """Every event in the order TensorBoard reads them: by name of file."""
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[12 + length + 4 :]


def shown(directory):
    """What TensorBoard shows: {tag: [(step, value or text)]}. A session's start voids what is at or after its step."""
    series = {}
    for event in events(directory):
        if event.session_log.status == SessionLog.START:
            for tag in series:
                series[tag] = [point for point in series[tag] if point[0] < event.step]
        for value in event.summary.value:
            content = value.tensor.string_val[0].decode() if value.tensor.string_val else value.simple_value
            series.setdefault(value.tag, []).append((event.step, content))
    return series


def test_numbers_and_texts_arrive(tmp_path):
    with TensorBoardLog(tmp_path) as log:
        log.scalars({"step": 5, "train/loss": 2.5, "val/bleu": None, "note": "text"})
        log.text("samples", "| a |", 5)
    series = shown(tmp_path)
    assert series.pop("train/loss") == [(5, 2.5)]
    ((tag, points),) = series.items()
    assert "samples" in tag and points == [(5, "| a |")]


def test_resuming_shows_each_step_once(tmp_path):
    with TensorBoardLog(tmp_path) as log:
        for step in range(1, 8):
            log.scalars({"step": step, "train/loss": 1.0})
    with TensorBoardLog(tmp_path, resumed_step=4) as log:
        for step in range(5, 9):
            log.scalars({"step": step, "train/loss": 2.0})
    assert len(list(tmp_path.iterdir())) == 2
    assert shown(tmp_path)["train/loss"] == [(step, 1.0 if step <= 4 else 2.0) for step in range(1, 9)]
