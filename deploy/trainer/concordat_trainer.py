"""trainer/1 for Python, without packages: what a trainer says and hears, and safetensors with F32, U8 and I32 tensors.

    import concordat_trainer as node
    task = node.begin("my-trainer")          # greets, waits for the task
    if task.start:
        node.finish([0.0] * 10)              # what a job begins with; decides how many numbers there are
    else:
        rows = node.rows()                   # {"x": .., "y": .., "unit": ..}: memoryviews, and task.rows, task.width; of survival also "time"
        weights = node.weights()
        node.finish(change)                  # floats, as many as weights; or bytes of little-endian float32

See doc/trainer.md. A trainer is made for one round, knows nothing of others and is ended after its answer."""
import json
import os
import struct
import types

CONTROL, DATA, WEIGHTS, OUTPUT = 3, 4, 5, 6
HELLO, TASK, PROGRESS, UPDATE, FAILED = 2, 3, 4, 5, 6
FIELDS = ("version", "task", "start", "round", "rounds", "numbers", "rows", "width", "epochs", "batch", "learning_rate", "seed", "threads",
          "time_ms", "features")


def pack(value):
    """msgpack, in the shortest form, which is the only one that is understood."""
    if isinstance(value, int):
        for top, mark, form in ((0x80, None, "B"), (1 << 8, 0xcc, "B"), (1 << 16, 0xcd, ">H"), (1 << 32, 0xce, ">I"), (1 << 64, 0xcf, ">Q")):
            if value < top:
                return (b"" if mark is None else bytes([mark])) + struct.pack(form, value)
    text = value.encode()
    return (bytes([0xa0 | len(text)]) if len(text) < 32 else b"\xd9" + bytes([len(text)])) + text


def unpack(data, at=0):
    """One value and where the next begins; of what a task holds."""
    mark = data[at]
    at += 1
    if mark < 0x80:
        return mark, at
    if mark in (0xc2, 0xc3):
        return mark == 0xc3, at
    if 0xcc <= mark <= 0xcf:
        size = 1 << (mark - 0xcc)
        return int.from_bytes(data[at:at + size], "big"), at + size
    if mark == 0xcb:
        return struct.unpack_from(">d", data, at)[0], at + 8
    if 0xa0 <= mark < 0xc0 or mark == 0xd9:
        size = mark & 31 if mark < 0xc0 else data[at]
        at += mark == 0xd9
        return data[at:at + size].decode(), at + size
    if 0x90 <= mark < 0xa0 or mark == 0xdc:
        count = mark & 15 if mark < 0xa0 else int.from_bytes(data[at:at + 2], "big")
        at += 2 * (mark == 0xdc)
        items = []
        for _ in range(count):
            item, at = unpack(data, at)
            items.append(item)
        return items, at
    raise ValueError("not what a task holds")


def say(kind, *values):
    body = bytes([kind]) + (bytes([0x90 | len(values)]) + b"".join(map(pack, values)) if values else b"")
    os.write(CONTROL, struct.pack("<I", len(body)) + body)


def read_exactly(count):
    data = b""
    while len(data) < count:
        more = os.read(CONTROL, count - len(data))
        if not more:
            raise SystemExit(0)
        data += more
    return data


def begin(name, tasks=("tabular-classification",)):
    """TASKS: what this trainer can learn; it gives up on any other."""
    say(HELLO, 1, name)
    body = read_exactly(struct.unpack("<I", read_exactly(4))[0])
    if body[0] != TASK:
        raise SystemExit(1)
    task = types.SimpleNamespace(**dict(zip(FIELDS, unpack(body, 1)[0])))
    if task.task not in tasks:
        say(FAILED)
        raise SystemExit(1)
    return task


def tensors(descriptor):
    size = os.fstat(descriptor).st_size
    data = os.pread(descriptor, size, 0)
    head = struct.unpack("<Q", data[:8])[0]
    view = memoryview(data)[8 + head:]
    found = {}
    for name, entry in json.loads(data[8:8 + head]).items():
        if name != "__metadata__":
            begin_at, end = entry["data_offsets"]
            found[name] = view[begin_at:end].cast({"F32": "f", "U8": "B", "I32": "i"}[entry["dtype"]])
    return found


def rows():
    return tensors(DATA)


def weights():
    return tensors(WEIGHTS)["weights"]


def progress(done, total):
    say(PROGRESS, done, total)


def finish(change):
    data = change if isinstance(change, (bytes, bytearray, memoryview)) else struct.pack(f"<{len(change)}f", *change)
    head = json.dumps({"change": {"dtype": "F32", "shape": [len(data) // 4], "data_offsets": [0, len(data)]}}).encode()
    head += b" " * (-len(head) % 8)
    whole = struct.pack("<Q", len(head)) + head + data
    at = 0
    while at < len(whole):
        at += os.pwrite(OUTPUT, whole[at:], at)
    say(UPDATE, len(whole))
